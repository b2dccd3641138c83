"""All contenders in one run on one batch: time, distance from the bare matrix products, memory.

`python -m bench.compare --shape qwen-512 --dtype bfloat16 --rounds 5 --json`
"""

import argparse
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from bench.contenders import (
    DTYPES,
    FORMS,
    OURS,
    Contender,
    bare_gemms,
    batch_for,
    forward_only,
    fp32_dweight_bytes,
    gate,
    step,
    warm_up,
)
from bench.measure import MIB, Timing, configuration, device_name, run_json, time_in_turns
from bench.shapes import BY_NAME, Limit, Shape, limits_for

BARE = "bare matrix products"
say = partial(print, flush=True)  # a long run shows how far it is, also through a pipe


def peak_bytes(contender: str, shape: Shape, dtype: str, form: str) -> dict[str, float]:
    """Peak memory of one contender, measured in a fresh process (`bench.measure.peak_of` says how)."""
    return run_json("bench.contenders", contender, "--shape", shape.name, "--dtype", dtype, "--form", form)


def gemm_flop(shape: Shape, form: str) -> float:
    """Floating-point operations that the form needs at least: 3 products, 2 with a frozen head, none from logits."""
    return {"linear": 3, "frozen": 2, "logits": 0}[form] * shape.gemm_flop


def inactive_backward(shape: Shape, dtype: torch.dtype, rounds: int) -> dict[str, Timing]:
    """Ours with all rows active, with half of them inactive (advantage 0), and without any gradient.

    Gradients are computed in the forward, so the backward's time is a step's less that of a call without gradients.
    """
    loss = FORMS["linear"][OURS].loss
    full, half = batch_for(shape, dtype, "linear"), batch_for(shape, dtype, "linear", inactive=0.5)
    calls: dict[str, Callable[[], object]] = {
        "all rows active": step(loss, full),
        "half of the rows inactive": step(loss, half),
        "no gradients": forward_only(loss, full),
    }
    return time_in_turns(calls, rounds)


def table(rows: list[list[str]]) -> str:
    """Left-aligned names, right-aligned numbers."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(line.rstrip() for line in lines)


def milliseconds(timing: Timing) -> str:
    return f"{timing.median * 1e3:.1f}"


def compare(
    shape: Shape, dtype: str, form: str, *, rounds: int, memory: bool = True, only: list[str] | None = None
) -> Iterator[dict[str, object]]:
    """Runs everybody and prints the table. Yields its one result whenever there are more numbers in it."""
    gate(DTYPES[dtype], form)
    contenders: dict[str, Contender] = {n: c for n, c in FORMS[form].items() if only is None or n in only or n == OURS}
    missing = [name for name, c in contenders.items() if not c.installed]
    batch = batch_for(shape, DTYPES[dtype], form)
    calls: dict[str, Callable[[], object]] = {name: step(c.loss, batch) for name, c in contenders.items() if c.installed}
    if form != "logits":
        calls = {BARE: bare_gemms(batch, frozen=form == "frozen"), **calls}
    slow = frozenset(name for name, c in contenders.items() if c.slow)
    for name in slow & calls.keys():
        warm_up(contenders[name], batch, DTYPES[dtype], form)()
    timings = time_in_turns(calls, rounds, slow)
    peaks: dict[str, dict[str, float]] = {}
    result: dict[str, object] = {
        "shape": asdict(shape),
        "dtype": dtype,
        "form": form,
        "timings": {name: asdict(t) for name, t in timings.items()},
        "peaks": peaks,
    }
    yield result
    torch.cuda.empty_cache()  # the processes below need the device's memory; without a GPU this does nothing
    for name in calls:
        if memory and name != BARE:
            peaks[name] = peak_bytes(name, shape, dtype, form)
            yield result

    base = timings.get(BARE, timings[OURS]).median
    head = ["forward + backward", "ms", "IQR", "x bare" if BARE in timings else "x ours", "tokens/s"]
    head += ["TFLOP/s", "peak MiB", "beside gradients"]
    rows = [head]
    for name, t in timings.items():
        peak = peaks.get(name)
        flop = gemm_flop(shape, form)
        rows.append(
            [
                name,
                milliseconds(t),
                f"{t.iqr * 1e3:.1f}" if t.rounds > 1 else "1 run",
                f"{t.median / base:.2f}",
                "" if name == BARE else f"{shape.rows / t.median:,.0f}",
                f"{flop / t.median / 1e12:.3f}" if flop else "",
                f"{peak['peak'] / MIB:,.0f}" if peak else "",
                f"{(peak['peak'] - peak['outputs']) / MIB:,.0f}" if peak else "",
            ]
        )
    rows += [[name, "not installed", *[""] * 6] for name in missing]
    say(f"\n{form}, {dtype}, R = {shape.rows:,}, H = {shape.hidden:,}, V = {shape.vocab:,}, {device_name()}")
    say(table(rows))
    if form == "linear":
        result["fp32_dweight_bytes"] = fp32_dweight_bytes(batch)
        if peaks:
            say(memory_line(peaks, fp32_dweight_bytes(batch)))
        result["inactive"] = print_inactive(inactive_backward(shape, DTYPES[dtype], rounds))
        yield result
    if torch.cuda.is_available():
        ours = peaks.get(OURS)
        for limit in limits_for(shape, form, dtype):
            say(against_limit(limit, timings[OURS].median, ours and ours["peak"] - ours["outputs"]))


def print_inactive(timings: dict[str, Timing]) -> dict[str, object]:
    """Prints what rows without a gradient save."""
    full, half, none = (t.median for t in timings.values())
    say(
        f"{OURS}, half of the rows inactive: {half * 1e3:.1f} ms for {full * 1e3:.1f} ms with all active; backward alone "
        f"{(half - none) * 1e3:.1f} for {(full - none) * 1e3:.1f} ms ({(half - none) / (full - none):.2f}x)"
    )
    return {name: asdict(t) for name, t in timings.items()}


def against_limit(limit: Limit, seconds: float, extra_bytes: float | None) -> str:
    """How much of a stated limit is reached: 1 or more is within it."""
    text = f"limit on {limit.device}: {limit.milliseconds} ms, reached {limit.milliseconds / (seconds * 1e3):.2f} of it"
    if limit.extra_gib is not None and extra_bytes:
        extra = extra_bytes / 1024 / MIB
        text += f"; {limit.extra_gib} GiB beside inputs and gradients, reached {limit.extra_gib / extra:.2f} of it"
        text += f" ({extra:.2f} GiB)"
    return f"{text}, on {device_name()}"


def memory_line(peaks: dict[str, dict[str, float]], fp32_dweight: int) -> str:
    """Peak memory beside inputs and gradients, next to torch's own fusion, with what an fp32 sum of dweight is of it."""
    others = [name for name in peaks if name.startswith("F.linear_cross_entropy")]
    beside = {name: (peaks[name]["peak"] - peaks[name]["outputs"]) / MIB for name in (OURS, *others)}
    listed = ", ".join(f"{name} {mib:,.0f} MiB" for name, mib in beside.items())
    cost = f"{fp32_dweight / MIB:,.0f} MiB of ours is the fp32 dweight (V x H x 4 bytes)" if fp32_dweight else ""
    return f"peak beside gradients: {listed}; {cost or 'ours holds no dweight beside the gradient itself'}"


RESULTS = Path(__file__).parent / "results"


def write_json(config: dict[str, object], results: list[dict[str, object]], folder: Path = RESULTS) -> Path:
    """<device>-<date>.json in `folder`, with the configuration that the numbers belong to."""
    name = re.sub(r"[^a-z0-9]+", "-", str(config["device"]).lower()).strip("-")
    path = folder / f"{name}-{config['date']}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"configuration": config, "results": results}, indent=1) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=BY_NAME, nargs="+", default=["small"])
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--form", choices=FORMS, nargs="+", default=["linear"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="contenders to run beside ours; default all")
    parser.add_argument("--no-memory", action="store_true", help="leave out the processes that measure memory")
    where = "write <device>-<date>.json there; default bench/results"
    parser.add_argument("--json", nargs="?", type=Path, const=RESULTS, metavar="FOLDER", help=where)
    args = parser.parse_args()
    settings = configuration()
    say(f"{settings['device']}, {settings['threads']} threads; {settings['versions']}")
    results: list[dict[str, object]] = []
    path: Path | None = None
    for shape, form, dtype in itertools.product(args.shape, args.form, args.dtype):
        results.append({})
        for results[-1] in compare(BY_NAME[shape], dtype, form, rounds=args.rounds, memory=not args.no_memory, only=args.only):
            if args.json:  # at once: an interrupt loses nothing
                path = write_json(settings, results, args.json)
    if path is not None:
        say(f"written to {path}")


if __name__ == "__main__":
    main()
