"""The same in a terminal: a page of text."""

from collections.abc import Sequence

from trainer.escaping import for_terminal
from trainer.report.facts import amount, duration, facts, labels, smooth
from trainer.report.folder import RunFolder
from trainer.report.page import comparison, evaluation, progress

_BLOCKS = "▁▂▃▄▅▆▇█"


def summary(runs: Sequence[RunFolder]) -> str:
    """Did it learn, what did it cost, who was updated; several runs side by side below."""
    run, known = runs[0], [facts(other) for other in runs]
    first = known[0]
    lines = [f"{run.path}: {progress(run, first)}"]
    if first.tested is not None:
        change = first.tested
        text = f"{change.before:.1f} -> {change.after:.1f} % solved ({change.difference:+.1f} points"
        if change.low is not None and change.high is not None:
            text += f", 95 % interval {change.low:+.1f} to {change.high:+.1f}: {change.verdict}"
        lines.append(f"test     {text})")
    if first.reward is not None:
        curve = spark(run.column("rollout/reward")[1])
        lines.append(f"reward   {first.reward.before:.3f} -> {first.reward.after:.3f}  {curve}")
    sft = f"SFT {duration(first.sft_seconds)}, " if first.sft_seconds else ""
    cost = f"cost     {sft}RL {duration(first.rl_seconds)}"
    if first.steps:
        cost += f" ({duration(first.step_seconds)} a step), {amount(first.tokens)} tokens sampled; "
        cost += f"{first.saved:.0%} saved by packing, {first.cached:.0%} of prompts cached"
    lines.append(cost)
    if first.updated:
        lines.append("updated  " + ", ".join(f"{policy} {share:.0%}" for policy, share in first.updated.items()) + " of steps")
    if first.skipped:
        lines.append(f"skipped  {first.skipped} updates, see {run.path / 'failures'}")
    if first.failed:
        lines.append(f"failed   {first.failed} trajectories could not be scored")
    for rows in (evaluation(run), comparison(labels(runs), known) if len(runs) > 1 else []):
        if rows:
            lines += ["", *table(rows)]
    return "\n".join(map(for_terminal, lines))


def spark(values: Sequence[float], width: int = 40) -> str:
    """A line of blocks, low to high; of the running mean where there are more values than `width`."""
    values = smooth(values, max(1, len(values) // 12))
    if len(values) > width:
        values = [values[i * (len(values) - 1) // (width - 1)] for i in range(width)]
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(_BLOCKS[min(int((value - low) / span * len(_BLOCKS)), len(_BLOCKS) - 1)] for value in values)


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as aligned lines, the first column on the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
