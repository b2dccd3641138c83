"""How an error of the master propagates: what becomes of episodes by how its first call compares with the expert's."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.config import TrainConfig
from trainer.hima_ecom.checkers import same
from trainer.hima_ecom.tasks import Task
from trainer.react import Action, parse
from trainer.report.folder import RunFolder
from trainer.setting import hima_ecom_setting

KINDS = {
    "same": "calls the expert's agent with the expert's words",
    "worded": "calls the expert's agent with other words",
    "agent": "calls another agent",
    "none": "calls nobody",
}
THEN = {True: "its first call is the expert's", False: "its first call is another, or none"}


def first_call(turns: Sequence[Sequence[str]], *, master: bool) -> Action | None:
    """The first text of the master, or of a sub-agent, if it is a call."""
    text = next((text for agent, text in turns if (agent == "master") == master), None)
    said = None if text is None else parse(text)
    return said if isinstance(said, Action) else None


def kind_of(turns: Sequence[Sequence[str]], task: Task) -> str:
    """Which of KINDS an episode is."""
    mine = first_call(turns, master=True)
    expert = first_call([(node["agent"], node["text"]) for node in task.trajectory], master=True)
    assert expert is not None
    if mine is None:
        return "none"
    if mine.name != expert.name:
        return "agent"
    return "same" if same(mine.arguments, expert.arguments) else "worded"


def follows(turns: Sequence[Sequence[str]], task: Task) -> bool:
    """Whether the first sub-agent's first call is the expert's."""
    mine = first_call(turns, master=False)
    expert = first_call([(node["agent"], node["text"]) for node in task.trajectory], master=False)
    return mine is not None and expert is not None and mine.name == expert.name and same(mine.arguments, expert.arguments)


def counted(report: Mapping[str, Any], tasks: Mapping[str, Task]) -> tuple[Counter[Any], Counter[Any]]:
    """({kind: episodes}, {kind: solved ones}); a kind is one of KINDS, or a key of THEN among those of kind "same"."""
    total: Counter[Any] = Counter()
    solved: Counter[Any] = Counter()
    for episode in report["episodes"]:
        task = tasks[episode["id"]]
        kinds: list[Any] = [kind_of(episode["turns"], task)]
        if kinds == ["same"]:
            kinds.append(follows(episode["turns"], task))
        for kind in kinds:
            total[kind] += 1
            solved[kind] += episode["accuracy"] == 1.0
    return total, solved


def propagation(runs: Mapping[int, RunFolder]) -> str:
    """The part of the page, over the runs of all seeds."""
    counts: dict[str, tuple[Counter[Any], Counter[Any]]] = {name: (Counter(), Counter()) for name in ("sft", "final")}
    for run in runs.values():
        tests = hima_ecom_setting(TrainConfig.load(run.path / "config.yaml").data).tests
        tasks = {job.id: job.task for job in tests}
        for name, (total, solved) in counts.items():
            more_total, more_solved = counted(run.reports[name], tasks)
            total.update(more_total)
            solved.update(more_solved)
    lines = [
        "| | before RL: episodes, % | solved of these, % | after RL: episodes, % | solved of these, % |",
        "| --- " * 5 + "|",
    ]
    rows = [(kind, f"the master first {text}") for kind, text in KINDS.items()]
    rows[1:1] = [(kind, f"- the sub-agent then: {text}") for kind, text in THEN.items()]
    for kind, title in rows:
        cells = []
        for total, solved in counts.values():
            whole = sum(total[name] for name in KINDS)
            cells += [f"{100 * total[kind] / whole:.1f}", f"{100 * solved[kind] / total[kind]:.1f}" if total[kind] else ""]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    episodes = sum(counts["final"][0][name] for name in KINDS)
    told = f"Test episodes of {len(runs)} seeds of VR-GRPO, {episodes} in all, by what the master does first."
    return "\n\n".join(["## How do errors of the master propagate?", told, "\n".join(lines)])
