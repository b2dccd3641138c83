"""docs/results.md and its figures: what the runs of `make paper` found, means over seeds with their spread."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.paper import folder_of
from bench.paper_plan import ARMS, BY_NAME, MORE_SEEDS, QUESTIONS, Arm, Question
from bench.paper_propagation import propagation
from trainer.report.facts import paired, smooth
from trainer.report.folder import RunFolder, read_run

DOCS = Path(__file__).resolve().parents[1] / "docs"
COLUMNS = {"cooperation": "Cooperation", "qa": "QA", "efc": "EFC", "gfc": "GFC", "math": "Math"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
T95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t for n values, two-sided
_BEGIN, _END = "<!-- begin: paper -->", "<!-- end: paper -->"


class Runs:
    """The runs that came to their end, by arm and seed."""

    def __init__(self, root: Path) -> None:
        self.found: dict[str, dict[int, RunFolder]] = {}
        for arm in ARMS:
            seeds = {}
            for seed in range(MORE_SEEDS):
                folder = folder_of(root, arm, seed)
                if (folder / "final" / "policies").is_dir():
                    seeds[seed] = read_run(folder)
            self.found[arm.name] = seeds

    def before(self, seed: int) -> dict[str, Any]:
        """The evaluation of a seed's SFT start."""
        return self.found["joint"][seed].reports["sft"]

    def after(self, arm: str, seed: int) -> dict[str, Any]:
        """The evaluation at the end of a run."""
        reports = self.found[arm][seed].reports
        return reports["sft" if BY_NAME[arm].longer else "final"]

    def seeds(self, arm: str) -> list[int]:
        """Those that can be compared with their start."""
        return [seed for seed in self.found[arm] if seed in self.found["joint"]]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """`12.3 ± 1.1`: mean and standard deviation over seeds."""
    if not values:
        return ""
    mean = f"{fmean(values):.{digits}f}"
    return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean


def gain(runs: Runs, arm: str, base: str | None = None, seeds: Sequence[int] | None = None) -> str:
    """The mean change in points against the start (or another arm of the same seeds), with its 95 % interval over seeds."""
    if base is None:
        pairs = [(runs.before(seed), runs.after(arm, seed)) for seed in (runs.seeds(arm) if seeds is None else seeds)]
    else:
        pairs = [(runs.after(base, seed), runs.after(arm, seed)) for seed in runs.seeds(arm) if seed in runs.found[base]]
    values = [b["average"]["solved"] - a["average"]["solved"] for a, b in pairs]
    if not values:
        return ""
    if len(values) < 2:
        return f"{values[0]:+.1f}"
    half = T95[len(values)] * stdev(values) / len(values) ** 0.5
    return f"{fmean(values):+.1f} ({fmean(values) - half:+.1f} to {fmean(values) + half:+.1f})"


def scalar(runs: Runs, arm: str, name: str) -> list[float]:
    """The mean of a scalar over the steps, for each seed."""
    return [fmean(values) for run in runs.found[arm].values() if (values := run.column(name)[1])]


def shared_seeds(runs: Runs, question: Question) -> list[int]:
    """The seeds of the first arm that any other arm has, too: what it is shown for."""
    others = {seed for name in question.arms[1:] for seed in runs.seeds(name)}
    return [seed for seed in runs.seeds(question.arms[0]) if seed in others or not others]


def solved_table(runs: Runs, question: Question) -> str:
    """Solved test tasks by column, before and after, and the change; the start and the first arm of seeds that others have."""
    base, shown = question.arms[0], shared_seeds(runs, question)
    head = ["solved, %", *COLUMNS.values(), "Avg", "against the start", f"against {BY_NAME[base].title}", "seeds"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    starts = [runs.before(seed) for seed in shown]
    lines.append(_row("the SFT start", starts, "", "", len(starts)))
    for name in question.arms:
        seeds = shown if name == base else runs.seeds(name)
        ends = [runs.after(name, seed) for seed in seeds]
        if ends:
            other = "" if name == base else gain(runs, name, base)
            lines.append(_row(BY_NAME[name].title, ends, gain(runs, name, seeds=seeds), other, len(ends)))
    return "\n".join(lines)


def _row(title: str, reports: Sequence[dict[str, Any]], against: str, other: str, seeds: int) -> str:
    by_column = [{c["name"]: c["solved"] for c in report["columns"]} for report in reports]
    cells = [spread([found[name] for found in by_column if name in found]) for name in COLUMNS]
    average = spread([report["average"]["solved"] for report in reports])
    return "| " + " | ".join([title, *cells, f"**{average}**", against, other, str(seeds)]) + " |"


def cost_table(runs: Runs, arms: Sequence[str]) -> str:
    """What a step of each arm took."""
    names = {
        "sampled tokens": "rollout/sampled_tokens", "trajectories": "rollout/trajectories", "groups": "rollout/groups",
        "that learn": "select/groups", "seconds": "seconds/step", "of which rollout": "seconds/rollout",
    }  # fmt: skip
    lines = ["| a step | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for arm in arms:
        if runs.found[arm] and not BY_NAME[arm].longer:
            cells = [spread(scalar(runs, arm, name), 1 if name.startswith("seconds") else 0) for name in names.values()]
            lines.append(f"| {BY_NAME[arm].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def per_seed(runs: Runs, arms: Sequence[str]) -> str:
    """Every seed's average, before and after."""
    seeds = runs.seeds("joint")
    lines = ["| average, % | " + " | ".join(f"seed {seed}" for seed in seeds) + " |", "| --- " * (len(seeds) + 1) + "|"]
    lines.append("| the SFT start | " + " | ".join(f"{runs.before(s)['average']['solved']:.1f}" for s in seeds) + " |")
    for arm in arms:
        cells = [f"{runs.after(arm, s)['average']['solved']:.1f}" if s in runs.found[arm] else "" for s in seeds]
        lines.append(f"| {BY_NAME[arm].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def within(runs: Runs, arm: str) -> str:
    """Tasks that were solved after and not before, and the other way round, over all seeds."""
    pairs = [pair for s in runs.seeds(arm) for column in paired(runs.before(s), runs.after(arm, s)).values() for pair in column]
    gained, lost = (sum(pair == want for pair in pairs) for want in ((0.0, 1.0), (1.0, 0.0)))
    return f"{BY_NAME[arm].title}: of {len(pairs)} test episodes {gained} are newly solved and {lost} no longer."


def curve(runs: Runs, arms: Sequence[Arm], seeds: Sequence[int], path: Path) -> None:
    """Mean reward of the trajectories over the steps, and its range over these seeds."""
    figure = Figure(figsize=(6.4, 3.4 + 0.2 * len(arms)), layout="constrained")
    axes = figure.subplots()
    for arm, colour in zip(arms, COLOURS, strict=False):
        columns = [run.column("rollout/reward") for seed, run in runs.found[arm.name].items() if seed in seeds]
        columns = [column for column in columns if column[0]]
        if columns:
            length = min(len(values) for _, values in columns)
            rows = np.array([smooth(values[:length], 5) for _, values in columns])
            steps = columns[0][0][:length]
            axes.plot(steps, rows.mean(axis=0), color=colour, label=arm.title)
            axes.fill_between(steps, rows.min(axis=0), rows.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("step")
    axes.set_ylabel("mean reward of a trajectory")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1))  # above: curves are anywhere
    figure.savefig(path, metadata={"Date": None})


def section(runs: Runs, question: Question, figures: Path) -> str:
    """One question: table, cost, curve."""
    arms = [BY_NAME[name] for name in question.arms if runs.found[name]]
    parts = [f"## {question.title}", solved_table(runs, question)]
    if question.name == "learning":
        parts += ["Every seed:", per_seed(runs, question.arms), *[within(runs, name) for name in question.arms]]
    curves = [arm for arm in arms if not arm.longer]
    curve(runs, curves, shared_seeds(runs, question), figures / f"reward-{question.name}.svg")
    alt = "Mean reward over the steps: " + "; ".join(arm.title for arm in curves)
    parts.append(f"![{alt}](figures/reward-{question.name}.svg)")
    if question.name != "learning":
        parts.append(cost_table(runs, question.arms))
    return "\n\n".join(parts)


def write(root: Path) -> Path:
    """Fills the marked part of docs/results.md. Raises: FileNotFoundError where no run of "joint" has come to its end."""
    runs = Runs(root)
    if not runs.found["joint"]:
        raise FileNotFoundError(f"{root}: expected finished runs of the arm 'joint', got none")
    settings = {"svg.fonttype": "none", "svg.hashsalt": "himakernels", "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(settings):
        parts = [section(runs, q, DOCS / "figures") for q in QUESTIONS if sum(map(bool, map(runs.found.get, q.arms))) > 1]
    parts.append(propagation(runs.found["joint"]))
    page = DOCS / "results.md"
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    page.write_text(f"{head}{_BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{_END}{tail}", encoding="utf-8")
    return page
