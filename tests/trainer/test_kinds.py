"""Types of options: what is of one, in words; a configuration made in Python is checked as one from a file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from trainer.config import SFTConfig, TrainConfig
from trainer.engine.base import SamplingParams
from trainer.kinds import check_kind, in_words, is_kind, shown
from trainer.models import ModelConfig
from trainer.step import LearnerConfig


@pytest.mark.parametrize(
    ("hint", "yes", "no", "words"),
    [
        (int, [0, -3], [1.0, True, "1", None], "a whole number"),
        (float, [0, 0.5, float("inf")], [True, "0.5", None], "a number"),
        (bool, [True], [1, 0.0, "true", None], "true or false"),
        (int | None, [3, None], [3.5, False], "a whole number or null"),
        (Literal["a", 1], ["a", 1], ["b", True, 1.0], "'a' or 1"),
        (tuple[str, ...], [(), ("a",), ["a", "b"]], ["ab", ("a", 1), {"a"}], "a list of texts"),
        (tuple[float, float], [(0, 0.9)], [(0,), (0, 1, 2), (0, True)], "a list of 2 numbers"),
        (list[float] | None, [None, [1, 2.0]], [[True], 1.0, "12"], "a list of numbers or null"),
        (Mapping[str, int], [{}, {"a": 1}], [[], {"a": 1.5}, {1: 1}], "a mapping"),
        (str | Path | None, ["", Path("a"), None], [b"", 1], "a text or a Path or null"),
        (Any, [None, 1, "a"], [], "a Any"),
    ],
)
def test_what_is_of_a_type(hint: Any, yes: list[Any], no: list[Any], words: str) -> None:
    assert [value for value in yes if not is_kind(value, hint)] == []
    assert [value for value in no if is_kind(value, hint)] == []
    assert in_words(hint) == words


def test_a_class_is_shown_as_one() -> None:
    assert (shown(int), shown(None), shown((1, 2)), shown("a")) == ("the class int", "null", "[1, 2]", "'a'")
    with pytest.raises(TypeError, match=r"^seed: expected a whole number, got the class int$"):
        check_kind("seed", int, int)


CASES: list[tuple[Any, str]] = [
    (lambda: TrainConfig(max_steps=1.5), "max_steps: expected a whole number or null, got 1.5"),
    (lambda: TrainConfig(queries_per_step="8"), "queries_per_step: expected a whole number, got '8'"),
    (lambda: TrainConfig(model=None), "model: expected a mapping, got null"),
    (lambda: TrainConfig(sft=SFTConfig(batch_tokens=10.5)), "sft.batch_tokens: expected a whole number, got 10.5"),
    (lambda: TrainConfig(engine=True), "engine: expected 'local' or 'vllm', got True"),
    (lambda: replace(TrainConfig(), sampling=SamplingParams), "sampling: expected a mapping, got the class SamplingParams"),
    (lambda: ModelConfig(lora_rank=4.5), "lora_rank: expected a whole number, got 4.5"),
    (lambda: ModelConfig(gradient_checkpointing="no"), "gradient_checkpointing: expected true or false, got 'no'"),
    (lambda: LearnerConfig(token_budget=0.5), "token_budget: expected a whole number or null, got 0.5"),
    (lambda: LearnerConfig(warmup_steps=2.5), "warmup_steps: expected a whole number, got 2.5"),
]


@pytest.mark.parametrize(("make", "message"), CASES)
def test_a_configuration_made_in_python(make: Any, message: str) -> None:
    with pytest.raises(TypeError if "'local'" not in message else ValueError) as raised:
        make()
    assert str(raised.value) == message


def test_numbers_of_a_file_are_those_that_it_shows() -> None:
    """YAML 1.1 has octal numbers, and a double has 53 bits: neither is read as something else than what stands there."""
    config = TrainConfig.load(None, ["seed=010", "model.lora_alpha=1.5", "max_steps=1_000", "learner.eps=1"])
    assert (config.seed, config.model.lora_alpha, config.max_steps, config.learner.eps) == (10, 1.5, 1000, 1.0)
    assert TrainConfig.load(None, ["seed=08"]).seed == 8
    assert TrainConfig.load(None, ["seed=9007199254740993"]).seed == 9007199254740993
    assert TrainConfig.load(None, ["learner.learning_rate=9007199254740992"]).learner.learning_rate == 2.0**53
    for change, message in (
        ("model.lora_rank=1.5", "model.lora_rank: expected a whole number, got 1.5"),
        ("learner.learning_rate=9007199254740993", "learner.learning_rate: expected a number, got 9007199254740993"),
        (f"learner.learning_rate=1{'0' * 400}", "learner.learning_rate: expected a number, got 1000"),
        ("model.gradient_checkpointing=1", "model.gradient_checkpointing: expected true or false, got 1"),
        ("model.name=2024-01-01", "model.name: expected a text, got datetime.date"),
    ):
        with pytest.raises(ValueError, match=message):
            TrainConfig.load(None, [change])
