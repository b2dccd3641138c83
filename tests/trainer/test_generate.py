"""Talking to a system: each turn, who is called with what, the answer; a run's folder at every stage; what is refused."""

import io
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import AGENTS, Counter, ScriptedEngine, add, ask, policies, say, told
from tiny_run import trainer, unsealed

from trainer.cli import main
from trainer.config import TrainConfig
from trainer.generate.command import shown
from trainer.generate.system import AskedStore, Said, System, open_system
from trainer.hima_ecom import World
from trainer.memory import HashingEmbedder, Memory
from trainer.memory.store import Entry
from trainer.react import Action, Answer, Malformed
from trainer.saved import SavedRun


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    trainer(folder).train()
    return folder


class Asked(Counter):
    """The query alone is the task."""

    def reset(self, task: Any, seed: int = 0) -> str:
        return super().reset({"query": task, "target": 3})


def write(policy: str, prompt: str, rng: random.Random) -> str:
    heard = told(prompt)
    if "master" in policy:
        return [ask("Count to 3."), ask(""), say("It is 3.")][len(heard) - 1]
    return [add(3), say("3")][len(heard) - 1]


def system(write: Any, memory: Memory | None = None) -> System:
    spoken: Any = SimpleNamespace(**vars(policies()), bases=[])
    saved = SavedRun(config=TrainConfig(), policies=spoken, memory=memory, path=Path("none"))
    return System(saved, AGENTS, Asked, engine=ScriptedEngine(write))


def test_every_turn_is_told(tmp_path: Path) -> None:
    with Memory(tmp_path / "memory.sqlite", HashingEmbedder()) as memory:
        with memory.store.write():
            memory.store.insert(Entry(0, "adder", "Count to 3.", "Add at once."), memory.embedder.embed(["Count to 3."])[0])
        made = system(write, memory)
        turns = list(made.ask("How many?"))
    assert [(said.agent, said.depth, said.delegates) for said in turns] == [
        ("master", 0, True), ("adder", 1, False), ("adder", 1, False), ("master", 0, False), ("master", 0, False)
    ]  # fmt: skip
    assert turns[0].step == Action("adder", {"task": "Count to 3."})
    assert (turns[1].step, turns[1].observation) == (Action("add", {"n": 3}), "3")
    assert [said.strategies for said in turns] == [(), ("Add at once.",), (), (), ()]
    assert turns[3].observation is not None  # a call of a sub-agent that is refused
    assert "takes" in turns[3].observation
    assert made.outcome is not None
    assert (made.outcome.answer, len(made.outcome.calls), made.outcome.delegations) == ("It is 3.", 1, 2)
    assert "\n".join(shown(said) for said in turns).splitlines() == [
        "master asks adder: Count to 3.",
        "    memory: Add at once.",
        '    adder calls add: {"n": 3}',
        "      -> 3",
        "    adder answers: 3",
        'master calls adder: {"task": ""}',
        '  -> {"error":"adder takes {\\"task\\": \\"what it should do\\"} and nothing else"}',
        "master answers: It is 3.",
    ]


def test_ends_without_an_answer() -> None:
    made = system(lambda *asked: "Hm.")
    (said,) = made.ask("How many?")
    assert isinstance(said.step, Malformed)
    assert shown(said).startswith("master wrote what is outside the grammar (expected")
    assert made.outcome is not None
    assert made.outcome.reason == "malformed"

    class Broken(Asked):
        def step(self, *asked: Any, **options: Any) -> Any:
            raise OSError("no counter")

    made = system(lambda *asked: say("3"))
    made.make_env = Broken
    list(made.ask("How many?"))
    assert (made.outcome, made.error) == (None, "OSError: no counter")


def test_what_is_printed_gives_a_terminal_no_orders() -> None:
    said = Said("qa", "", Answer("a\x1b[2Jb\nc", "think"), None, False, (), 1)
    assert shown(said) == "    qa thinks: think\n    qa answers: a?[2Jb\n    c"
    assert shown(said, {"qa": 33}).count("\x1b[") == 6  # ours


def test_a_query_over_the_store() -> None:
    world = World.in_memory(7)
    env = AskedStore(world, "C0001")
    assert env.reset("Who am I?") == "Who am I?"
    assert env.session.customer_id == "C0001"
    assert "error" in env.step(Action("nothing", {})).observation
    end = env.step(Answer("You."))
    assert (end.done, end.reward) == (True, None)


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Queries as arguments, or lines of standard input; the same seed says the same. The memory's file stays as it is."""
    before = (run / "memory.sqlite").read_bytes()
    assert main(["generate", str(run), "Who delivers O00001?", "And O00002?", "--customer", "C0001"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("query: ")] == [
        "query: Who delivers O00001?", "query: And O00002?"
    ]  # fmt: skip
    assert out.count("no answer: ") + out.count("answer: ") >= 2
    assert "master" in out
    assert "\x1b[" not in out  # no terminal, no colour
    monkeypatch.setattr("sys.stdin", io.StringIO("\nWho delivers O00001?\n"))
    for _ in range(2):
        assert main(["generate", "--temperature", "1", str(run), "Who delivers O00001?"]) == 0
    one, two = (part.splitlines()[1] for part in capsys.readouterr().out.split("query: ")[1:])
    assert one == two
    assert main(["generate", str(run)]) == 0
    assert capsys.readouterr().out.count("query: ") == 1
    assert (run / "memory.sqlite").read_bytes() == before
    assert main(["generate", str(run), "O00001\udcff?"]) == 0  # of bytes that are no text
    assert "query: O00001??\n" in capsys.readouterr().out
    monkeypatch.setattr("trainer.reading.MAX_LINE", 100)
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 101))
    assert main(["generate", str(run)]) == 2
    assert "standard input: line 1: expected at most 100 characters, got more" in capsys.readouterr().err


def test_what_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tmp_path / "none"), "x"]) == 2
    assert "expected a folder with a run (config.yaml), got none" in capsys.readouterr().err
    assert main(["generate", str(run), "x", "--customer", "nobody"]) == 2
    assert "customer: expected one of the store, such as C0001, got nobody" in capsys.readouterr().err
    folder = tmp_path / "other"
    shutil.copytree(run, folder)
    saved = folder / "final" / "policies" / "policies.json"
    saved.write_text(saved.read_text().replace('"gfc"', '"cook"'))
    unsealed(folder)  # else it would be damaged
    (folder / "final" / "policies" / "gfc").rename(folder / "final" / "policies" / "cook")
    with pytest.raises(ValueError, match=r"expected a run of the agents master, qa, efc, gfc, math, or assistant, got .*cook"):
        open_system(folder, device="cpu").__enter__()


def test_a_run_over_prompts(tmp_path: Path) -> None:
    """One agent, which reads the query as it stands."""
    from test_trainer import ROWS, arguments, vowels
    from tiny_policies import byte_tokenizer, qwen3

    from trainer import VRGRPOTrainer

    VRGRPOTrainer(qwen3(), arguments(tmp_path / "run"), vowels, ROWS, processing_class=byte_tokenizer()).train()
    with open_system(tmp_path / "run", device="cpu") as made:
        (said,) = made.ask("1 + 1 =")
        assert said.agent == "assistant"
        assert made.outcome is not None
        assert made.outcome.answer == said.text
