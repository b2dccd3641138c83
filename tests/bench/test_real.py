"""make demo-real without the model: which sums are played and scored how, and the page from a run's folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench import real, real_page
from trainer import TrainConfig

STEPS = 12


def test_the_last_number_counts() -> None:
    data, _, _ = real.sums(0, tests=1, size=1)
    item = {"answer": "-7"}
    texts = {"-7": 1, "2 - 9 = -7.": 1, "-7 is less than 9": 0, "7": 0, "": 0, "none": 0, "- 7": 0}
    assert {text: data.score_answer(text, item) for text in texts} == texts


def test_no_sum_of_the_test_is_learnt_from() -> None:
    _, learnt, tests = real.sums(0)
    assert (len(learnt), len(tests)) == (real.SUMS, real.TESTS)
    assert len({item["question"] for item in [*learnt, *tests]}) == real.SUMS + real.TESTS
    assert {item["metadata"]["num_terms"] for item in tests} == set(range(real.TERMS[0], real.TERMS[1] + 1))


def test_the_configurations_are_read() -> None:
    for path in real.CONFIGS.values():
        config = TrainConfig.load(path)
        assert config.max_steps
        assert config.model.paradigm == "lora"


def step_line(step: int) -> dict[str, Any]:
    line: dict[str, Any] = {"kind": "train", "step": step, "time": 20.0 + step, "rollout/reward": step / STEPS}
    line |= {"rollout/queries": 2.0, "rollout/trajectories": 20.0, "rollout/groups": 6.0, "select/groups": 5.0}
    line |= {"rollout/sampled_tokens": 900.0, "rollout/malformed": 0.25, "tokens_saved": 0.5}
    line |= {"learner/original_tokens": 400.0, "learner/packed_tokens": 200.0, "learner/grad_norm/master": 0.25}
    line |= {"variance/master": 0.125, "selected/master": 5.0, "selected/qa": 0.0}
    return line | {"seconds/step": 9.0, "seconds/rollout": 5.0, "seconds/update": 3.5}


def report(solved: list[int]) -> str:
    share = 100 * sum(solved) / len(solved)
    column = {"name": "eval", "episodes": len(solved), "solved": share, "low": share - 5, "high": share + 5, "written": 7.0}
    episodes = [{"id": str(i), "column": "eval", "accuracy": float(one)} for i, one in enumerate(solved)]
    return json.dumps({"columns": [column], "average": column, "episodes": episodes})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Folders of both runs, made by hand: of 20 sums 5 are solved before, and these and 8 more after."""
    for name, path in real.CONFIGS.items():
        folder = tmp_path / "runs" / name
        (folder / "eval").mkdir(parents=True)
        TrainConfig.load(path).save(folder / "config.yaml")
        lines: list[dict[str, Any]] = [{"kind": "sft", "step": 1, "time": 8.0, "learner/loss": 1.0}] if name == "five" else []
        lines += [step_line(step) for step in range(1, STEPS + 1)]
        lines += [{"kind": "eval", "step": at, "time": 9.0 + at, "name": what} for at, what in ((0, "sft"), (STEPS, "final"))]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "eval" / "sft.json").write_text(report([1] * 5 + [0] * 15))
        (folder / "eval" / "final.json").write_text(report([1] * 13 + [0] * 7))
    place = {"device": "A CPU", "threads": 2, "cores": 2, "versions": {"torch": "2.13", "gguf": "1"}}
    (tmp_path / "runs" / "sums" / real.ENVIRONMENT).write_text(json.dumps(place))
    return tmp_path / "runs"


def test_the_page(runs: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "results.md").write_text("# Results\n\n<!-- begin: paper -->\nkept\n<!-- end: paper -->\n")
    text = real_page.write(runs, docs)
    page = (docs / "results.md").read_text()
    assert page.startswith("# Results\n\n<!-- begin: paper -->\nkept\n<!-- end: paper -->\n\n<!-- begin: real -->\n")
    assert page.endswith("<!-- end: real -->\n")
    for part in (
        "| before RL | 25.0 | 20.0 to 30.0 | 7.0 |",
        "| after RL | 65.0 | 60.0 to 70.0 | 7.0 |",
        "+40.0 points (95 % interval of the paired difference ",
        "Of 20 sums 8 are newly solved and 0 no longer.",
        "A CPU, 2 of 2 cores",
        "torch 2.13, gguf 1",
        "| learning rate | 0.0003",
        "SFT: 1 updates in 8.0 s.",
        "| master | 0.125 | 5 | 0.250 |",
        "| qa | did not play | 0 | not updated |",
        "2 queries, 20 trajectories, 6 nodes with siblings, 900 tokens sampled, 5 groups selected, 25% of the actions",
        "It took 9.0 s: rollout 5.0 s, update 3.5 s; 50% of the learner's tokens saved by packing.",
        "no learning is claimed",
    ):
        assert part in text
    figure = (docs / "figures" / real_page.FIGURE).read_text()
    assert "reward of an answer" in figure
    assert real_page.write(runs, docs) == text
    assert (docs / "results.md").read_text() == page
    assert (docs / "figures" / real_page.FIGURE).read_text() == figure


def test_a_page_of_one_run_or_of_none(runs: Path, tmp_path: Path) -> None:
    shutil.rmtree(runs / "five")
    (runs / "sums" / real.ENVIRONMENT).unlink()
    text = real_page.write(runs, tmp_path / "new")
    assert "not recorded" in text
    assert "five agents" not in text
    assert (tmp_path / "new" / "results.md").read_text().startswith("# Results\n\n<!-- begin: real -->")
    with pytest.raises(FileNotFoundError, match=r"expected a run of bench\.real with a step, got none"):
        real_page.write(tmp_path / "nothing", tmp_path / "new")
    (tmp_path / "new" / "results.md").write_text("<!-- begin: real -->")
    with pytest.raises(ValueError, match="expected both"):
        real_page.write(runs, tmp_path / "new")
