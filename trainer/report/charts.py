"""The charts of a report: what of a run they show, each with a sentence on how to read it."""

from collections.abc import Callable, Sequence

from trainer.escaping import for_html
from trainer.report import svg
from trainer.report.facts import smooth
from trainer.report.folder import Line, RunFolder, numbers

RUNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart with any kind of colour vision
AGENTS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a7a00")
PHASES = {"rollout": "#0072b2", "select": "#cc79a7", "update": "#e69f00", "memory": "#009e73", "checkpoint": "#8a8f98"}
OTHER = "#c9ccd1"


def agent_colors(run: RunFolder) -> dict[str, str]:
    """{agent or policy: its colour}."""
    names = dict.fromkeys([*run.agents, *run.names("updated/"), *(t["agent"] for e in run.episodes for t in e["turns"])])
    return {name: AGENTS[i % len(AGENTS)] for i, name in enumerate(names)}


def figures(runs: Sequence[RunFolder], names: Sequence[str]) -> list[str]:
    """All charts that the runs have numbers for; those of one run are the first's."""
    run = runs[0]
    makers: list[Callable[[], str]] = [
        lambda: _over_steps(runs, names, "rollout/reward", "Reward", "mean reward", "Reward of the sampled trajectories; pale: "
                            "each step, strong: its running mean."),
        lambda: _tests(runs, names),
        lambda: _over_steps(runs, names, "rollout/accuracy", "Accuracy in training", "R_A", "What the task's checker gave, "
                            "without format and calls.", 1.0),
        lambda: _who(run),
        lambda: _variance(run),
        lambda: _times(run),
        lambda: _over_steps(runs, names, "tokens_saved", "Tokens saved", "share", "Of the learner's batch: what siblings share "
                            "is forwarded once.", 1.0),
        lambda: _over_steps(runs, names, "engine/hit_rate", "Prompt cache", "share", "Of the prompts' tokens: what the engine "
                            "had computed before.", 1.0),
        lambda: _memory(run),
        lambda: _over_steps(runs, names, "rollout/malformed", "Outside the grammar", "share", "Of the sampled actions.", 1.0),
        lambda: _over_steps(runs, names, "rollout/calls", "Calls an episode", "calls", "Of tools and sub-agents."),
        lambda: _sft(runs, names),
    ]  # fmt: skip
    return [figure for make in makers if (figure := make())]


def _figure(title: str, how: str, chart: str) -> str:
    return f"<figure><figcaption><b>{for_html(title)}</b> {for_html(how)}</figcaption>{chart}</figure>"


def _over_steps(
    runs: Sequence[RunFolder], names: Sequence[str], scalar: str, title: str, y: str, how: str, top: float | None = None
) -> str:
    lines = []
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        lines += _both(name, RUNS[i % len(RUNS)], run.train, scalar)
    return _figure(title, how, svg.line_chart(lines, title=title, x="step", y=y, top=top)) if lines else ""


def _both(name: str, color: str, lines: Sequence[Line], scalar: str) -> list[svg.Line]:
    """The values, pale, and their running mean."""
    xs, ys = numbers(lines, scalar)
    if not xs:
        return []
    mean = svg.Line(name, color, xs, smooth(ys, max(1, len(ys) // 12)))
    return [mean] if len(xs) < 12 else [svg.Line(name, color, xs, ys, raw=True), mean]


def _tests(runs: Sequence[RunFolder], names: Sequence[str]) -> str:
    lines = []
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        found = [line for line in run.evals if numbers([line], "avg/solved")[0]]
        if found:
            xs, ys = numbers(found, "avg/solved")
            low, high = (_or(found, f"avg/{side}", ys) for side in ("low", "high"))
            lines.append(svg.Line(name, RUNS[i % len(RUNS)], xs, ys, points=True, low=low, high=high))
    how = "Mean of the columns, with its 95 % interval; those between the ends may play fewer tasks."
    chart = svg.line_chart(lines, title="Solved on the test", x="step", y="solved, %", top=10.0) if lines else ""
    return _figure("Solved on the test", how, chart) if chart else ""


def _or(lines: Sequence[Line], name: str, otherwise: Sequence[float]) -> list[float]:
    return [float(line[name]) if line.get(name) is not None else other for line, other in zip(lines, otherwise, strict=True)]


def _who(run: RunFolder) -> str:
    colors = agent_colors(run)
    rows = []
    for agent in run.agents:
        xs, ys = run.column(f"selected/{agent}")
        rows.append((agent, colors[agent], {int(x): y for x, y in zip(xs, ys, strict=True)}))
    how = "How many of an agent's groups were among those of the highest variance; empty: neither forwarded nor changed."
    chart = svg.strips(rows, title="Who learnt when", x="step", unit="groups") if any(cells for *_, cells in rows) else ""
    return _figure("Who learnt when", how, chart) if chart else ""


def _variance(run: RunFolder) -> str:
    colors = agent_colors(run)
    lines = []
    for agent in run.agents:
        xs, ys = run.column(f"variance/{agent}")
        if xs:
            lines.append(svg.Line(agent, colors[agent], xs, smooth(ys, max(1, len(ys) // 12))))
    how = "Mean variance of the rewards within an agent's groups (running mean): where there is something to learn."
    chart = svg.line_chart(lines, title="Variance by agent", x="step", y="variance of R") if lines else ""
    return _figure("Variance by agent", how, chart) if chart else ""


def _times(run: RunFolder) -> str:
    """What a step took; what no phase accounts for on top."""
    lines = [line for line in run.train if numbers([line], "seconds/step")[0]]
    if not lines:
        return ""
    xs, whole = numbers(lines, "seconds/step")
    window = max(1, len(xs) // 12)
    layers = []
    for phase, color in PHASES.items():
        ys = [float(line.get(f"seconds/{phase}") or 0.0) for line in lines]
        if any(ys):
            layers.append((phase, color, ys))
    inside = [ys for phase, _, ys in layers if phase != "checkpoint"]  # which is written between steps
    rest = [max(0.0, step - sum(ys[i] for ys in inside)) for i, step in enumerate(whole)]
    if sum(rest) > 0.01 * sum(whole):
        layers.append(("other", OTHER, rest))
    smoothed = [(phase, color, smooth(ys, window)) for phase, color, ys in layers]
    chart = svg.stacked_chart(xs, smoothed, title="Seconds of a step", x="step", y="seconds")
    return _figure("Seconds of a step", "Where the time goes (running mean).", chart)


def _memory(run: RunFolder) -> str:
    colors = agent_colors(run)
    lines = []
    for agent in run.agents:
        xs, ys = run.column(f"memory/{agent}/entries")
        if xs:
            lines.append(svg.Line(agent, colors[agent], xs, ys))
    chart = svg.line_chart(lines, title="Memory", x="step", y="entries") if lines else ""
    return _figure("Memory", "Entries of each agent after the step.", chart) if chart else ""


def _sft(runs: Sequence[RunFolder], names: Sequence[str]) -> str:
    """A second run that began with the same policies has no SFT of its own."""
    lines = []
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        lines += _both(name, RUNS[i % len(RUNS)], run.sft, "learner/loss")
    chart = svg.line_chart(lines, title="SFT", x="update", y="loss") if lines else ""
    return _figure("SFT", "Cross-entropy before RL, summed over agents.", chart) if chart else ""
