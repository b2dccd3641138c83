"""A data set of prompts: what the agent reads, token by token, what it earns, and the rows that are refused."""

import copy
import random
from types import SimpleNamespace
from typing import Any

import pytest
from scripted import ScriptedEngine, tokenizer
from tokenizers.processors import TemplateProcessing

from trainer.agents import Agent
from trainer.dialogue import TokenContext
from trainer.env import Environment
from trainer.prompts_env import NAME, PromptsEnv, prompt_agents, prompt_tasks, prompt_template
from trainer.reward_funcs import RewardFuncs
from trainer.rollout import sample_groups
from trainer.types import Message
from trainer.vrgrpo import VRGRPOConfig, select

CONFIG = VRGRPOConfig(group_size=4, top_k=None, efficiency=0.0, format=0.0)


def marked_tokenizer() -> Any:
    """One that puts a token before every text, as Llama's does."""
    made = copy.deepcopy(tokenizer())
    made.add_special_tokens({"bos_token": "<'s\\>"})
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<'s\\> $A", special_tokens=[("<'s\\>", made.bos_token_id)]
    )
    return made


def guess(policy: str, prompt: str, rng: random.Random) -> str:
    return rng.choice(["4", "5", "Action: qa", ""])


def exact(completions: list[Any], answer: list[str], **rest: Any) -> list[float]:
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [float(text == right) for text, right in zip(texts, answer, strict=True)]


def sample(rows: list[dict[str, Any]], judge: RewardFuncs, own: Any = None, config: VRGRPOConfig = CONFIG) -> Any:
    own = copy.deepcopy(own or tokenizer())
    tasks = prompt_tasks(rows)
    own.chat_template = prompt_template(own, tasks)
    policies = SimpleNamespace(tokenizer=own, policy_of={NAME: "policy"})
    return sample_groups(
        ScriptedEngine(guess), policies, PromptsEnv, prompt_agents(), tasks, config, 7, params=None, entry=NAME, judge=judge
    )


TEXTS = [{"prompt": f"{i} + 2 = \n", "answer": str(i + 2)} for i in range(4)]
TALKS = [
    {
        "prompt": [
            {"role": "system", "content": "Add."},
            {"role": "user", "content": "1 + 1"},
            {"role": "assistant", "content": "2"},
            {"role": "user", "content": f"{i} + 2"},
        ],
        "answer": str(i + 2),
    }
    for i in range(4)
]


@pytest.mark.parametrize("own", [tokenizer, marked_tokenizer])
def test_texts_go_to_the_model_as_they_stand(own: Any) -> None:
    """As TRL tokenises them: no chat template, the tokenizer's own first token where it has one."""
    groups, _ = sample(TEXTS, RewardFuncs(exact), own())
    assert [list(group.prompt_ids) for group in groups] == [own()(row["prompt"])["input_ids"] for row in TEXTS]
    assert (own()("x")["input_ids"][0] == own().bos_token_id) == (own is marked_tokenizer)


def test_messages_go_through_the_chat_template() -> None:
    groups, _ = sample(TALKS, RewardFuncs(exact))
    for group, row in zip(groups, TALKS, strict=True):
        ids = tokenizer().apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=True, return_dict=False)
        assert list(group.prompt_ids) == ids
    bare = copy.deepcopy(tokenizer())
    bare.chat_template = None
    assert prompt_template(bare, TALKS) is None
    with pytest.raises(ValueError, match="expected one with a chat template"):
        TokenContext(bare)


@pytest.mark.parametrize("rows", [TEXTS, TALKS])
def test_rewards_and_advantages_are_the_functions(rows: list[dict[str, Any]]) -> None:
    """One node a row; any text is an answer; R is the function's value; advantages by hand."""
    groups, stats = sample(rows, RewardFuncs(exact))
    assert [(group.task, group.node, group.agent, len(group.siblings)) for group in groups] == [
        (i, 0, NAME, 4) for i in range(4)
    ]
    texts = [sibling.text for group in groups for sibling in group.siblings]
    assert {"", "Action: qa", "4"} <= set(texts)
    assert (stats.trajectories, stats.malformed, stats.failed, stats.calls) == (16, 0.0, 0, 0.0)
    for group in groups:
        right = rows[group.task]["answer"]
        assert group.rewards == tuple(float(sibling.text == right) for sibling in group.siblings)
        assert all(sibling.parsed and sibling.reason == "answered" for sibling in group.siblings)
    chosen = select(groups, CONFIG)
    assert 0 < sum(chosen.selected) < 4
    for group, advantages, selected in zip(groups, chosen.advantages, chosen.selected, strict=True):
        mean = sum(group.rewards) / 4
        std = (sum((reward - mean) ** 2 for reward in group.rewards) / 3) ** 0.5
        assert advantages == pytest.approx([(reward - mean) / (std + 1e-4) for reward in group.rewards])
        assert selected == (std > 0)


def test_an_episode_of_one_turn() -> None:
    env = PromptsEnv()
    assert isinstance(env, Environment)
    assert env.reset(TEXTS[0]) == "0 + 2 = \n"
    assert env.reset(TALKS[0])[0] == Message("system", "Add.")
    assert env.step(None).done
    env.restore(env.snapshot())
    with pytest.raises(ValueError, match="tools: expected none for a plain agent, got 1"):
        Agent("a", "acts.", ({"function": {"name": "x"}},), plain=True)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], ValueError, "train_dataset: expected at least one row, got none"),
        (iter(TEXTS), TypeError, "train_dataset: expected rows that can be counted, got list_iterator"),
        ({"prompt": ["a"]}, TypeError, "train_dataset: expected rows that can be counted, got dict"),
        (["a"], TypeError, r"train_dataset\[0\]: expected a row \(a mapping\), got str"),
        ([{"question": "a"}], ValueError, r"train_dataset\[0\]: expected a column 'prompt', got question"),
        ([{"prompt": 3}], TypeError, r"train_dataset\[0\]: task\['prompt'\]: expected a text or messages"),
        ([{"prompt": []}], TypeError, r"train_dataset\[0\]: task\['prompt'\]"),
        ([*TEXTS, TALKS[0]], ValueError, r"train_dataset\[4\]: expected a prompt of the kind of row 0"),
        ([{"prompt": [{"role": "tool", "content": "x"}]}], TypeError, r"task\['prompt'\]"),
        ([{"prompt": [{"role": "user", "content": [{"type": "image"}]}]}], TypeError, r"task\['prompt'\]"),
        ([{"prompt": [{"role": "assistant", "content": "x"}]}], ValueError, "messages that end with the user's"),
    ],
)
def test_rows_that_are_refused(rows: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        prompt_tasks(rows)
