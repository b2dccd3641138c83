"""What a run of bench/gpu.sh measured: one file of results, and the table of what is reached.

`python -m bench.gpu_table PARTS --out bench/results`

PARTS is the folder of what the stages wrote: files of pytest-benchmark (`--benchmark-json`) and of `bench.compare --json`. The
result has the form of the latter: a configuration and a list of results, each with the timings of those that ran side by side.
A stage that was stopped leaves an empty file, or none, or half a file: its numbers are missing, the others are not. The lines
below the table, and stderr, name the parts that cannot be read and those of another machine or other versions (exit status 1).
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare import BARE, RESULTS, table, write_json
from bench.contenders import OURS
from bench.measure import MIB
from bench.shapes import ATTENTION_TARGETS, BY_NAME, limits_for

Result = dict[str, Any]
# Whom ours stands beside in the table, where they ran; the first that did.
OPPONENTS = ("FlexAttention", "PEFT one after the other", "sdpa on padded rows", "eager torch")
CONFIGURATION = ("device", "driver", "cuda", "threads", "cores", "python", "versions", "date")


def of_pytest_benchmark(found: dict[str, Any]) -> list[tuple[dict[str, Any], Result]]:
    """(configuration, result) of each group: the timings of its contenders, and what their benches noted beside them.

    A bench that was interrupted amid its rounds is in the file, too, but has noted nothing: it is left out.
    """
    groups: dict[str, tuple[dict[str, Any], Result]] = {}
    for one in found["benchmarks"]:
        noted = dict(one["extra_info"])
        if "contender" not in noted:
            continue
        config = {key: noted.pop(key) for key in CONFIGURATION if key in noted}
        _, result = groups.setdefault(one["group"], (config, {"group": one["group"], "timings": {}, "noted": {}}))
        contender, stats = noted.pop("contender"), one["stats"]
        result["timings"][contender] = {key: stats[key] for key in ("median", "iqr", "rounds")}
        result["noted"][contender] = noted
    return list(groups.values())


def read(path: Path) -> list[tuple[dict[str, Any], Result]]:
    """(configuration, result) of everything in one stage's file; nothing where it was stopped before it wrote any."""
    text = path.read_text()
    if not text.strip():
        return []
    found = json.loads(text)
    return of_pytest_benchmark(found) if "benchmarks" in found else [(found["configuration"], r) for r in found["results"]]


@dataclass(frozen=True)
class Merged:
    """The first part's configuration and the results of all; a result of another one says in `differs` what it has instead."""

    configuration: dict[str, Any]
    results: list[Result]
    empty: list[str]  # parts without numbers
    wrong: list[str]  # what is to be said of parts that cannot be read, or are unlike the first


def merge(parts: list[Path]) -> Merged:
    """All that can be read. ValueError where that is no number at all."""
    config: dict[str, Any] = {}
    merged = Merged(config, [], [], [])
    for path in parts:
        try:
            pairs = read(path)
        except (ValueError, KeyError, TypeError) as error:
            merged.wrong.append(f"left out, as it cannot be read: {path} ({type(error).__name__}: {error})")
            continue
        if not pairs:
            merged.empty.append(str(path))
        for other, result in pairs:
            if not merged.results:
                config.update(other)
            differs = {k: other.get(k) for k in CONFIGURATION if k != "date" and other.get(k) != config.get(k)}
            merged.results.append({**result, "differs": differs} if differs else result)
            for key, value in differs.items():
                name = result.get("group", result.get("form"))
                merged.wrong.append(f"{key}: expected {config.get(key)} everywhere, got {value} in {name} of {path}")
    if not merged.results:
        where = ", ".join(map(str, parts)) or "the folder"
        raise ValueError("; ".join([f"expected numbers in {where}, got none", *merged.wrong]))
    return merged


@dataclass(frozen=True)
class Line:
    """One line of the table. A target is reached where `reached`, the part of it that was, is at least 1."""

    what: str
    measured: str
    of_bare: float | None = None
    beside: str = ""
    target: str = ""
    reached: float | None = None

    def cells(self) -> list[str]:
        of_bare = "" if self.of_bare is None else f"{self.of_bare:.2f}"
        if self.reached is None:
            return [self.what, self.measured, of_bare, self.beside, self.target, ""]
        answer = "yes" if self.reached >= 1 else "NO"
        return [self.what, self.measured, of_bare, self.beside, self.target, f"{answer}, {self.reached:.2f} of it"]


def lines_of(result: Result) -> Iterator[Line]:
    """What one result says of ours: its time, and a line more for every further target."""
    medians = {name: timing["median"] for name, timing in result["timings"].items()}
    ours = next((name for name in medians if name.startswith(OURS)), None)
    if ours is None:
        return
    opponent = next((name for name in OPPONENTS if name in medians), None)
    ratio = None if opponent is None else medians[opponent] / medians[ours]
    beside = "" if ratio is None else f"{ratio:.2f} x {opponent}"
    milliseconds = f"{medians[ours] * 1e3:.3f} ms"
    if "group" in result:
        of_bare = result["noted"][ours].get("fraction_of_bare_product")
        if opponent == "FlexAttention":
            yield Line(result["group"], milliseconds, of_bare, beside, "FlexAttention's time", ratio)
        else:
            yield Line(result["group"], milliseconds, of_bare, beside)
        direction, tree, *_ = [*result["group"].split(), ""]
        if tree == "chains-128" and of_bare is not None:
            target = ATTENTION_TARGETS[direction]
            yield Line(result["group"], milliseconds, of_bare, "", f"{target:.0%} of the product's rate", of_bare / target)
        return
    shape, dtype, form = BY_NAME[result["shape"]["name"]], result["dtype"], result["form"]
    what = f"loss, {form}, R = {shape.rows:,}, {dtype}"
    of_bare = medians[BARE] / medians[ours] if BARE in medians else None
    limits = limits_for(shape, form, dtype)
    if not limits:
        yield Line(what, milliseconds, of_bare, beside)
    for limit in limits:
        target = f"{limit.milliseconds} ms on {limit.device}"
        yield Line(what, milliseconds, of_bare, beside, target, limit.milliseconds / 1e3 / medians[ours])
        peak = result["peaks"].get(ours)
        if limit.extra_gib is not None and peak:
            extra = (peak["peak"] - peak["outputs"]) / 1024 / MIB
            yield Line(f"{what}, memory", f"{extra:.2f} GiB", None, "", f"{limit.extra_gib} GiB", limit.extra_gib / extra)


def describe(config: dict[str, Any], results: list[Result]) -> str:
    """The table below the configuration it belongs to."""
    head = ["ours", "measured", "of the bare product", "times as fast as", "target", "reached"]
    rows = [head, *(line.cells() for result in results for line in lines_of(result))]
    return f"{', '.join(f'{key} {value}' for key, value in config.items())}\n{table(rows)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the result")
    args = parser.parse_args()
    parts = sorted(args.parts.rglob("*.json"))
    try:
        merged = merge(parts)
    except ValueError as error:
        print(f"bench.gpu_table: {error}", file=sys.stderr)
        return 1
    path = write_json(merged.configuration, merged.results, args.out)
    print(describe(merged.configuration, merged.results))
    if merged.empty:
        print(f"without numbers: {', '.join(merged.empty)}")
    for line in merged.wrong:
        print(line)
        print(f"bench.gpu_table: {line}", file=sys.stderr)
    print(f"written to {path}")
    return 1 if merged.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
