"""TRL's reward functions: what they are given, what they may return, and what a failure costs."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from plays import call, say
from scripted import tokenizer
from test_foreign import Guess
from test_prompts_env import TALKS, TEXTS, exact, sample

from trainer.agents import single_agent
from trainer.dialogue import TokenContext
from trainer.episode import Episode
from trainer.foreign import as_environment
from trainer.judging import Judged
from trainer.play import Player
from trainer.prompts_env import NAME, PromptsEnv, prompt_agents
from trainer.reward_funcs import RewardFuncs


def player(task: Any, *texts: str, env: Any = None) -> Player:
    """One that has written these texts."""
    made = PromptsEnv() if env is None else as_environment(env)
    agents = single_agent(made.tools) if env else prompt_agents()
    found = Player(Episode(made, agents, task=task, entry=NAME), (0,))
    context = TokenContext(tokenizer())
    for text in texts:
        assert found.episode.request is not None
        context.sync(found.episode.request.messages)
        context.append(context.reply_ids(text), None)
        found.episode.act(text)
    found.contexts, found.written = {NAME: context}, {NAME: texts}
    return found


def judge(functions: Any, rows: list[dict[str, Any]], texts: list[str], **options: Any) -> list[Judged]:
    made = functions if isinstance(functions, RewardFuncs) else RewardFuncs(functions, **options)
    return made(rows, [player(row, text) for row, text in zip(rows, texts, strict=True)])


def test_what_a_function_is_given() -> None:
    """All completions of a batch at once, those of a row together, other columns repeated for each."""
    seen: list[dict[str, Any]] = []

    def spy(**given: Any) -> list[float]:
        seen.append(given)
        given["log_metric"]("length", 3)
        given["log_metric"]("length", 5)
        given["log_extra"]("note", ["n"] * 16)
        return [float(i % 4) for i in range(16)]

    rows = [row | {"id": f"row-{i}", "completion": "gold", "level": i} for i, row in enumerate(TEXTS)]
    made = RewardFuncs(spy)
    made.state.global_step = 12
    groups, _ = sample(rows, made)
    (given,) = seen
    assert set(given) == {
        "prompts", "completions", "completion_ids", "answer", "id", "level", "trainer_state", "log_metric", "log_extra"
    }  # fmt: skip
    assert given["prompts"] == [row["prompt"] for row in rows for _ in range(4)]
    assert given["level"] == [i for i in range(4) for _ in range(4)]
    siblings = [sibling for group in groups for sibling in group.siblings]
    assert given["completions"] == [sibling.text for sibling in siblings]
    assert given["completion_ids"] == [list(sibling.token_ids) for sibling in siblings]
    assert given["trainer_state"].global_step == 12
    assert [sibling.reward for sibling in siblings] == [0.0, 1.0, 2.0, 3.0] * 4
    assert groups[0].task_id == "row-0"
    assert made.extra == {"note": ["n"] * 16}
    assert made.scalars() == {"length": 4.0, "rewards/spy/mean": 1.5, "rewards/spy/std": pytest.approx(1.25**0.5)}
    assert made.scalars() == {}
    sample(TALKS, made)
    assert seen[1]["prompts"][0] == TALKS[0]["prompt"]
    assert seen[1]["completions"][0][0].keys() == {"role", "content"}
    assert {message["role"] for completion in seen[1]["completions"] for message in completion} == {"assistant"}


def test_weights_and_missing_values() -> None:
    """By hand: a weighted sum over the functions that gave a value; no value at all: not scored."""
    first = [1.0, None, math.nan, None]
    second = [True, 2, 3.0, None]

    def a(**given: Any) -> Any:
        return first

    def b(**given: Any) -> Any:
        return torch.tensor([1.0, 2.0, 3.0, math.nan])

    found = judge([a, b], TEXTS, ["x"] * 4, weights=[2, 0.5])
    assert [value.accuracy for value in found[:3]] == [2.5, 1.0, 1.5]
    assert found[3].error == "reward_funcs: expected a number from one of them, got none"
    assert math.isnan(found[3].accuracy)
    assert [value.accuracy for value in judge([a, lambda **given: second], TEXTS, ["x"] * 4)[:3]] == [2.0, 2.0, 3.0]
    twice = RewardFuncs([a, a, lambda **given: [None] * 4])
    judge(twice, TEXTS, ["x"] * 4)
    assert twice.scalars() == {
        "rewards/a_0/mean": 1.0, "rewards/a_0/std": 0.0, "rewards/a_1/mean": 1.0, "rewards/a_1/std": 0.0
    }  # fmt: skip


def test_infinite_values_and_sums() -> None:
    """By hand: an infinity in a sum, a sum that is too large, and sums of which only a part is."""
    a = lambda **_: [math.inf, 1e308, 1e308, -math.inf, -(10**400), 1.0]  # noqa: E731
    b = lambda **_: [-math.inf, 1e308, -1e308, math.inf, 0.0, math.inf]  # noqa: E731
    c = lambda **_: [1.0, None, 1e308, None, None, None]  # noqa: E731
    made = RewardFuncs([a, b, c, lambda **_: [2.0, 2.0, None, None, None, None]], weights=[1.0, 1.0, 1.0, 0.0])
    rows = [*TEXTS, *TEXTS[:2]]
    found = judge(made, rows, ["x"] * 6)
    assert [value.accuracy for value in found] == pytest.approx([math.nan, math.nan, 1e308, *[math.nan] * 3], nan_ok=True)
    assert found[0].error == "<lambda>_0: expected a finite reward, got inf"
    assert found[1].error == "reward_funcs: expected a finite sum of weighted rewards, got inf"
    assert not any(value.failed for value in found)
    scalars = made.scalars()
    assert scalars["rewards/<lambda>_0/mean"] == pytest.approx(1e308 / 3 * 2)
    assert scalars["rewards/<lambda>_1/mean"] == 0.0
    ignored = judge([a, lambda **_: [0.5] * 6], rows, ["x"] * 6, weights=[0.0, 1.0])
    assert [value.accuracy for value in ignored] == [0.5] * 6
    made = RewardFuncs(lambda log_metric, **_: [log_metric("m", v) or 1.0 for v in (math.inf, -math.inf)])
    judge(made, TEXTS[:2], ["x"] * 2)
    assert math.isnan(made.scalars()["m"])


def test_what_no_function_may_return() -> None:
    def short(**given: Any) -> list[float]:
        return [1.0] * 3

    with pytest.raises(ValueError, match="reward function 'short': expected 4 values, one for each completion, got 3"):
        judge(short, TEXTS, ["x"] * 4)
    for wrong in (["good"] * 4, 1.0, None):
        with pytest.raises(TypeError, match=r"reward function '<lambda>': expected a list of numbers or None, got"):
            judge(lambda wrong=wrong, **given: wrong, TEXTS, ["x"] * 4)
    with pytest.raises(ValueError, match="expected no column of the name that functions know"):
        judge(exact, [TEXTS[0] | {"prompts": 1}], ["x"])
    with pytest.raises(TypeError, match=r"reward_funcs: expected tasks that are rows \(mappings\), got str"):
        RewardFuncs(exact)(["x"], [player(TEXTS[0], "x")])


def test_a_function_that_raises_costs_those_completions_only() -> None:
    def picky(completions: list[str], **given: Any) -> list[float]:
        return [1 / len(text) for text in completions]

    found = judge([exact, picky], TEXTS, ["2", "", "no", "5"])
    assert [value.accuracy for value in found if value.error is None] == [2.0, 0.5, 2.0]
    assert found[1].error == "picky: ZeroDivisionError: division by zero"

    async def slow(completions: list[str], **given: Any) -> list[float]:
        return picky(completions)

    assert judge([exact, slow], TEXTS, ["2", "", "no", "5"])[1].error == "slow: ZeroDivisionError: division by zero"

    def broken(**given: Any) -> list[float]:
        raise KeyError("answers")

    with pytest.raises(RuntimeError, match="expected at least one trajectory of 16 to be scored, got none: broken: KeyError"):
        sample(TEXTS, RewardFuncs([exact, broken]))


def test_coroutine_functions_run_together() -> None:
    order: list[str] = []

    async def one(answer: list[str], **given: Any) -> list[float]:
        order.append("one begins")
        await asyncio.sleep(0.01)
        order.append("one ends")
        return [1.0] * len(answer)

    class Two:
        async def __call__(self, answer: list[str], **given: Any) -> list[float]:
            order.append("two")
            return [2.0] * len(answer)

    assert [value.accuracy for value in judge([one, Two()], TEXTS, ["x"] * 4)] == [3.0] * 4
    assert order == ["one begins", "two", "one ends"]

    async def notebook() -> list[Judged]:
        return judge(one, TEXTS[:1], ["x"])

    assert asyncio.run(notebook())[0].accuracy == 1.0


def test_environments_of_trl() -> None:
    """Their own reward counts with weight 1; functions see them; a completion is all messages after the prompt."""

    def guesses(environments: list[Guess], completions: list[Any], **given: Any) -> list[float]:
        assert [message["role"] for message in completions[0]] == ["assistant", "user", "assistant"]
        assert completions[0][1]["content"] == "Observation: right"
        return [float(len(environment.guesses)) for environment in environments]

    row = {"prompt": [{"role": "user", "content": "Find it."}], "secret": 3}
    made = player(row, call("guess", number=3), say("3"), env=Guess)
    assert RewardFuncs(guesses, weights=[0.25])([row], [made]) == [Judged(1.25)]
    text = row | {"prompt": "Find it."}
    seen: list[str] = []

    def spy(completions: list[str], completion_ids: list[list[int]], **given: Any) -> list[float]:
        seen.extend(completions)
        assert tokenizer().decode(completion_ids[0]).startswith(call("guess", number=3))
        return [0.0]

    RewardFuncs(spy)([text], [player(text, call("guess", number=3), say("3"), env=Guess)])
    assert seen == ["\n".join([call("guess", number=3), "Observation: right", say("3")])]


def test_an_episode_that_could_not_begin_is_scored_on_nothing() -> None:
    """Its first prompt was too long for the model."""
    made = player(TEXTS[0])
    made.contexts, made.written = {}, {}
    made.episode.give_up("context limit")
    seen: list[Any] = []
    assert RewardFuncs(lambda **given: seen.append(given) or [0.5])([TEXTS[0]], [made]) == [Judged(0.5)]
    assert (seen[0]["completions"], seen[0]["completion_ids"]) == ([""], [[]])


@pytest.mark.parametrize(
    ("functions", "weights", "error", "message"),
    [
        ([], None, ValueError, "reward_funcs: expected at least one function, got none"),
        ("org/reward-model", None, TypeError, r"reward_funcs\[0\]: expected a function .*, got 'org/reward-model'"),
        ([exact, torch.nn.Linear(1, 1)], None, TypeError, r"reward_funcs\[1\]: expected a function .*; call a reward model in"),
        (exact, [math.nan], ValueError, r"reward_weights\[0\]: expected .*, got nan"),
        (exact, [1.0, 2.0], ValueError, "reward_weights: expected 1, one for each of reward_funcs, got 2"),
    ],
)
def test_functions_that_are_refused(functions: Any, weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RewardFuncs(functions, weights=weights)


def test_rewards_are_those_that_trl_computes() -> None:
    """The sum of what TRL's own trainer gets from the same functions, NaN where it calls a completion unscorable."""
    trl = pytest.importorskip("trl")
    from accelerate import PartialState

    PartialState(cpu=True)  # TRL logs a warning for what it can't score

    def first(answer: list[str], **given: Any) -> list[float | None]:
        return [None if text == "2" else math.nan if text == "3" else 0.5 for text in answer]

    def second(completions: list[str], answer: list[str], **given: Any) -> list[float | None]:
        return [float(len(text)) if right != "2" else None for text, right in zip(completions, answer, strict=True)]

    texts, weights = ["a", "b", "cc", "ddd"], [0.5, -2.0]
    theirs = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu", is_main_process=True), reward_funcs=[first, second],
        reward_processing_classes=[None, None],
        reward_func_names=["first", "second"], args=SimpleNamespace(report_to=[]), environments=None,
        state=SimpleNamespace(global_step=0), _log_completion_extra=None, _log_metric=None,
    )  # fmt: skip
    prompts = [row["prompt"] for row in TEXTS]
    values = trl.GRPOTrainer._calculate_rewards(theirs, TEXTS, prompts, texts, [[1]] * 4)
    truth = (values * torch.tensor(weights)).nansum(dim=1)
    truth[values.isnan().all(dim=1)] = math.nan
    found = torch.tensor([value.accuracy for value in judge([first, second], TEXTS, texts, weights=weights)])
    torch.testing.assert_close(found, truth, equal_nan=True)
    assert found.isnan().tolist() == [True, False, False, False]
