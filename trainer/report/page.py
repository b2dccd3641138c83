"""The report as one HTML page that needs nothing else: what matters first, then charts, episodes and the configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.escaping import for_html
from trainer.evaluate.report import HEADINGS
from trainer.report.charts import agent_colors, figures
from trainer.report.facts import Change, Facts, amount, around, duration, facts, labels, paired
from trainer.report.folder import Line, RunFolder
from trainer.report.style import STYLE

MOST_TEXT = 4000  # characters of one turn or observation
FIRST = 2  # charts before the tables


def page(runs: Sequence[RunFolder]) -> str:
    """The HTML of a run, with others beside it. Raises: ValueError for no runs."""
    if not runs:
        raise ValueError("runs: expected at least one, got none")
    names, run = labels(runs), runs[0]
    title = " and ".join(other.path.resolve().name for other in runs)
    known, shown = [facts(other) for other in runs], figures(runs, names)
    parts = [
        f"<header><h1>{for_html(title)}</h1><p>{for_html(_about(run, known[0]))}</p></header>",
        *_warnings(known[0]),
        f'<section class="cards">{_learned(run, known[0])}{_cost(known[0])}{_updated(run, known[0])}</section>',
        _charts(shown[:FIRST]),
        _comparison(runs, names, known),
        *(_evaluation(other, name if len(runs) > 1 else "") for other, name in zip(runs, names, strict=True)),
        _charts(shown[FIRST:]),
        _episodes(run),
        _configuration(run),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{for_html(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _about(run: RunFolder, known: Facts) -> str:
    config = run.config
    model, rl = config.get("model") or {}, config.get("rl") or {}
    parts = [f"{model['name']}, {model.get('paradigm')}" if "name" in model else ""]
    parts.append(f"{config['queries_per_step']} queries a step" if "queries_per_step" in config else "")
    if rl:
        top_k = rl.get("top_k")
        parts.append(f"G = {rl.get('group_size')}, K = {'all' if top_k is None else top_k}")
    if config:
        parts += ["with memory" if config.get("memory") is not None else "without memory", f"seed {config.get('seed')}"]
    return " · ".join(part for part in [*parts, progress(run, known)] if part)


def progress(run: RunFolder, known: Facts) -> str:
    """How far a run is: `finished after 200 steps`, `80 of 200 steps`."""
    if not run.train:
        return "RL has not begun"
    if run.finished:
        return f"finished after {known.steps} steps"
    return f"{known.steps} of {known.planned} steps" if known.planned else f"{known.steps} steps so far"


def _warnings(known: Facts) -> list[str]:
    found = []
    if known.skipped:
        found.append(f"{known.skipped} updates were skipped for a loss or gradient that is not finite: see failures/.")
    if known.failed:
        found.append(f"{known.failed} trajectories could not be scored; they took no part.")
    return [f'<p class="warning">{for_html(text)}</p>' for text in found]


def _charts(shown: Sequence[str]) -> str:
    return f'<section class="charts">{"".join(shown)}</section>' if shown else ""


def _learned(run: RunFolder, known: Facts) -> str:
    lines = []
    names = around(run)
    if known.tested is not None and names is not None:
        change, ends = known.tested, for_html(f"{names[0]} → {names[1]}")
        big = f'<p class="big {_class(change)}">{change.difference:+.1f} <small>points on the test</small></p>'
        lines.append(f"<b>{change.before:.1f} → {change.after:.1f} %</b> solved, mean of the columns ({ends})")
        if change.low is not None and change.high is not None:
            lines.append(f"95 % interval {change.low:+.1f} to {change.high:+.1f}, paired: {change.verdict}")
    elif known.reward is not None:
        big = f'<p class="big">{known.reward.difference:+.3f} <small>reward in training</small></p>'
        lines.append("no two evaluations to compare")
    else:
        big = '<p class="big">–</p>'
        lines.append("nothing to compare yet")
    both = (("reward", known.reward), ("accuracy", known.accuracy))
    trained = [f"{word} {one.before:.3f} → {one.after:.3f}" for word, one in both if one is not None]
    lines += [f"{', '.join(trained)} in training, first and last tenth"] if trained else []
    return _card("Did it learn?", big, lines)


def _class(change: Change) -> str:
    return {"up": "good", "down": "bad"}.get(change.verdict, "")


def _cost(known: Facts) -> str:
    big = f'<p class="big">{duration(known.sft_seconds + known.rl_seconds)}</p>'
    sft = f"SFT {duration(known.sft_seconds)}, " if known.sft_seconds else ""
    lines = [f"{sft}RL and its evaluations {duration(known.rl_seconds)}"]
    if known.steps:
        lines += [
            f"{duration(known.step_seconds)} a step, {amount(known.tokens)} tokens sampled",
            f"<b>{known.saved:.0%}</b> of the learner's tokens saved by packing",
            f"<b>{known.cached:.0%}</b> of the prompts' tokens were in the cache",
        ]
    return _card("What did it cost?", big, lines)


def _updated(run: RunFolder, known: Facts) -> str:
    if not known.updated:
        return _card("Who was updated?", '<p class="big">–</p>', ["RL has not begun"])
    colors, rows = agent_colors(run), []
    for policy, share in known.updated.items():
        bar = f'<i style="width:{100 * share:.0f}%;background:{colors[policy]}"></i>'
        rows.append(f"<tr><td>{for_html(policy)}</td><td><div class=bar>{bar}</div></td><td>{share:.0%}</td></tr>")
    return _card("Who was updated?", f"<table class=bars>{''.join(rows)}</table>", ["share of the steps"])


def _card(title: str, big: str, lines: Sequence[str]) -> str:
    """lines: HTML."""
    return f"<div class=card><h2>{title}</h2>{big}{''.join(f'<p>{line}</p>' for line in lines)}</div>"


def comparison(names: Sequence[str], known: Sequence[Facts]) -> list[tuple[str, ...]]:
    """Rows of a table of several runs, the headings first."""

    def change(value: Change | None, digits: int) -> str:
        return "–" if value is None else f"{value.before:.{digits}f} → {value.after:.{digits}f}"

    return [
        ("", *names),
        ("steps", *(str(one.steps) for one in known)),
        ("solved on the test, %", *(change(one.tested, 1) for one in known)),
        ("reward in training", *(change(one.reward, 3) for one in known)),
        ("accuracy in training", *(change(one.accuracy, 3) for one in known)),
        ("seconds of a step", *(f"{one.step_seconds:.2f}" for one in known)),
        ("tokens sampled", *(amount(one.tokens) for one in known)),
        ("tokens saved", *(f"{one.saved:.0%}" for one in known)),
    ]


def _comparison(runs: Sequence[RunFolder], names: Sequence[str], known: Sequence[Facts]) -> str:
    if len(runs) < 2:
        return ""
    return f"<section><h2>Side by side</h2>{_table(comparison(names, known))}</section>"


def evaluation(run: RunFolder) -> list[tuple[str, ...]]:
    """Rows of the table of solved shares before and after, the headings first; none without an evaluation."""
    if not run.reports:
        return []
    ends = around(run)
    chosen = list(ends) if ends is not None else [next(iter(run.reports))]
    reports = [run.reports[name] for name in chosen]
    columns = [str(column["name"]) for column in reports[-1]["columns"]]
    rows: list[tuple[str, ...]] = [("solved, %", *(HEADINGS.get(name, name) for name in columns), "Avg")]
    for name, report in zip(chosen, reports, strict=True):
        solved = {str(column["name"]): column for column in [*report["columns"], {**report["average"], "name": "Avg"}]}
        cells = [solved.get(column) for column in [*columns, "Avg"]]
        rows.append((name, *("–" if cell is None else _solved(cell) for cell in cells)))
    if len(reports) == 2:
        pairs = paired(*reports)
        means = {name: 100 * sum(b - a for a, b in column) / len(column) for name, column in pairs.items()}
        if set(columns) <= means.keys():
            values = [*(means[name] for name in columns), sum(means[name] for name in columns) / len(columns)]
            rows.append(("difference, points", *(f"{value:+.1f}" for value in values)))
    return rows


def _solved(column: Mapping[str, Any]) -> str:
    return f"{column['solved']:.1f} ({column['low']:.0f}–{column['high']:.0f})"


def _evaluation(run: RunFolder, name: str) -> str:
    rows = evaluation(run)
    if not rows:
        return ""
    heading = f"Before and after{': ' + name if name else ''}"
    note = "<p class=note>In brackets: 95 % intervals of each share alone. Differences are over the episodes of both.</p>"
    return f"<section><h2>{for_html(heading)}</h2>{_table(rows)}{note}</section>"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = rows
    cells = "".join(f"<th>{for_html(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{for_html(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f"<div class=scroll><table class=numbers><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>"


def chosen(episodes: Sequence[Line]) -> list[tuple[str, Line]]:
    """(why, episode): a query that is there early and late, if its reward rose; the last ones; the first."""
    ordered = sorted(episodes, key=lambda episode: float(episode["step"]))
    first: dict[str, Line] = {}
    best: tuple[float, Line, Line] | None = None
    for episode in ordered:
        name = str(episode.get("task_id"))
        before = first.setdefault(name, episode)
        rise = float(episode["reward"]) - float(before["reward"])
        if rise > 0 and (best is None or rise >= best[0]):
            best = rise, before, episode
    found = [] if best is None else [("the same query, early", best[1]), ("the same query, late", best[2])]
    taken = [id(episode) for _, episode in found]
    rest = [episode for episode in ordered if id(episode) not in taken]
    found += [("at the end", episode) for episode in rest[-3:]]
    return found + [("at the beginning", episode) for episode in rest[: max(0, min(2, len(rest) - 3))]]


def _episodes(run: RunFolder) -> str:
    if not run.episodes:
        return ""
    colors = agent_colors(run)
    shown = "".join(_episode(why, episode, colors, first=i < 2) for i, (why, episode) in enumerate(chosen(run.episodes)))
    return f"<section><h2>Episodes</h2>{shown}</section>"


def _episode(why: str, episode: Line, colors: Mapping[str, str], *, first: bool) -> str:
    turns = []
    for turn in episode["turns"]:
        name = str(turn["agent"])
        chip = f'<span class=agent style="background:{colors.get(name, "#888")}">{for_html(name)}</span>'
        text = f"<pre>{for_html(_cut(turn['text']))}</pre>"
        seen = turn.get("observation")
        told = "" if seen is None else f"<pre class=seen>{for_html(_cut(seen))}</pre>"
        turns.append(f"<li>{chip}<div>{text}{told}</div></li>")
    expected = episode.get("expected")
    wanted = "" if expected is None else f"<p class=note>Expected: {for_html(_cut(expected))}</p>"
    line = f"step {episode['step']}, reward {float(episode['reward']):.2f}, {why}: {episode.get('query', '')}"
    body = f"{wanted}<ol class=turns>{''.join(turns)}</ol>"
    return f"<details{' open' if first else ''}><summary>{for_html(_cut(line))}</summary>{body}</details>"


def _cut(text: Any) -> str:
    whole = str(text)
    return whole if len(whole) <= MOST_TEXT else f"{whole[:MOST_TEXT]}… ({len(whole) - MOST_TEXT} more characters)"


def _configuration(run: RunFolder) -> str:
    import yaml

    if not run.config:
        return ""
    text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True, width=100)
    return f"<section><details><summary>Configuration</summary><pre>{for_html(text)}</pre></details></section>"
