"""The plots of docs/benchmark.md: what the tasks of a dataset look like. Okabe and Ito's colours: also for the colour-blind."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.benchmark_text import HEADINGS, SEED, test_split, world
from trainer.hima_ecom.tasks import COLUMNS, Task, stream_tasks

PALETTE = {"cooperation": "#0072B2", "qa": "#E69F00", "efc": "#009E73", "gfc": "#CC79A7", "math": "#D55E00"}
SHADES = ("#9ecae1", "#4292c6", "#084594")  # of one hue, so that they are told apart by lightness
GREY = "#bbbbbb"
TRAIN = 460  # tasks of a column in train.jsonl


def tasks() -> list[Task]:
    """Those of train.jsonl and test.jsonl."""
    seen = {task.query for task in test_split()}
    train = [task for c in COLUMNS for task in islice(stream_tasks(world(), SEED, "train", c, seen=seen), TRAIN)]
    return [*train, *test_split()]


def difficulty(axes: Axes, drawn: Sequence[Task]) -> None:
    """Tasks by column and difficulty."""
    counts = Counter((task.column, task.difficulty) for task in drawn)
    _stacked(axes, {f"difficulty {n}": [counts[c, n] for c in COLUMNS] for n in (1, 2, 3)}, SHADES)
    axes.set_title("Tasks by column and difficulty")


def languages(axes: Axes, drawn: Sequence[Task]) -> None:
    """Tasks by column and language."""
    counts = Counter((task.column, task.language) for task in drawn)
    parts = {name: [counts[c, code] for c in COLUMNS] for code, name in (("en", "English"), ("zh", "Chinese"))}
    _stacked(axes, parts, ("#0072B2", "#E69F00"))
    axes.set_title("Tasks by column and language of the query")


def nodes(axes: Axes, drawn: Sequence[Task]) -> None:
    """Nodes of an expert episode."""
    _dots(axes, drawn, lambda task: len(task.trajectory), "nodes of an expert episode (texts that the agents write)")
    axes.set_title("Nodes per expert episode")


def calls(axes: Axes, drawn: Sequence[Task]) -> None:
    """Calls of an expert episode."""
    _dots(axes, drawn, lambda task: task.minimal_calls, "calls of tools and sub-agents in an expert episode")
    axes.set_title("Calls per expert episode")


def lengths(axes: Axes, drawn: Sequence[Task]) -> None:
    """Words of English queries and answers."""
    english = [task for task in drawn if task.language == "en"]
    for shift, (name, colour) in enumerate((("query", "#0072B2"), ("answer", "#E69F00"))):
        for i, column in enumerate(COLUMNS):
            field = "query" if name == "query" else "final_response"
            values = sorted(len(getattr(task, field).split()) for task in english if task.column == column)
            low, high = (values[int(len(values) * share)] for share in (0.05, 0.95))
            y = len(COLUMNS) - 1 - i + 0.14 - 0.28 * shift
            axes.plot([low, high], [y, y], color=colour, linewidth=5, alpha=0.45, solid_capstyle="round")
            axes.plot(median(values), y, "o", color=colour, label=name if not i else None)
    axes.set_yticks(range(len(COLUMNS)), [HEADINGS[c] for c in reversed(COLUMNS)])
    axes.set_xlabel("words of English queries and answers: median, and from the 5th to the 95th percentile")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    axes.set_title("Length of queries and answers")


def _stacked(axes: Axes, parts: dict[str, list[int]], colours: Sequence[str]) -> None:
    left = [0] * len(COLUMNS)
    names = [HEADINGS[c] for c in COLUMNS]
    for (name, counts), colour in zip(parts.items(), colours, strict=True):
        axes.barh(names, counts, left=left, color=colour, label=name, height=0.65)
        left = [a + b for a, b in zip(left, counts, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("tasks of train.jsonl and test.jsonl")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=len(parts))


def _dots(axes: Axes, drawn: Sequence[Task], value: Callable[[Task], int], label: str) -> None:
    """A dot for each value that occurs, as large as its share of the column is."""
    for i, column in enumerate(COLUMNS):
        counts = Counter(value(task) for task in drawn if task.column == column)
        total = counts.total()
        sizes = [700 * count / total for count in counts.values()]
        axes.scatter(
            list(counts), [len(COLUMNS) - 1 - i] * len(counts), s=sizes, color=PALETTE[column], alpha=0.75, linewidths=0
        )
    axes.set_yticks(range(len(COLUMNS)), [HEADINGS[c] for c in reversed(COLUMNS)])
    axes.set_ylim(-0.6, len(COLUMNS) - 0.4)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"{label}; area: share of the column")


FIGURES = {
    "difficulty": difficulty,
    "nodes": nodes,
    "calls": calls,
    "lengths": lengths,
    "languages": languages,
}


def draw(folder: Path) -> None:
    """Writes every figure as an SVG file; the same tasks give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = tasks()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "himakernels", "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(settings):
        for name, paint in FIGURES.items():
            figure = Figure(figsize=(7.2, 3.2), layout="constrained", facecolor="white")
            axes = figure.add_subplot()
            paint(axes, drawn)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="x", color=GREY, linewidth=0.5, alpha=0.6)
            axes.set_axisbelow(True)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
