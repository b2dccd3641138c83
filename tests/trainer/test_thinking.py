"""Thinking models: <think> ... </think> is a thought, also where the template's generation prompt begins it."""

import copy
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chats import byte_tokenizer as spelled_tokenizer
from chats import trl_template
from scripted import ALONE, Counter, ScriptedEngine, add, say, tasks, tokenizer
from test_trainer import arguments
from tiny_policies import byte_tokenizer, qwen3

from trainer import VRGRPOTrainer
from trainer.agents import single_agent
from trainer.chat import chat_of
from trainer.engine.base import SamplingParams
from trainer.episode import Episode, Limits
from trainer.play import Player, play
from trainer.policies.engine import EnginePolicy
from trainer.prompts_env import NAME, PromptsEnv, prompt_agents
from trainer.react import Action, parse
from trainer.rewards import format_reward

LIMITS = Limits()


def setting(template: str) -> Any:
    own = copy.deepcopy(tokenizer())
    own.chat_template = trl_template(template)
    return SimpleNamespace(tokenizer=own, policy_of={"master": "policy", NAME: "policy"})


def played(template: str, before: str, limits: Limits = LIMITS) -> Player:
    """A counter's episode by a model that writes `before` and then what is right."""

    def write(policy: str, prompt: str, rng: random.Random) -> str:
        return before + (say("3") if "Observation: 3" in prompt else add(3))

    episode = Episode(Counter(), ALONE, task=tasks(1)[0], limits=limits)
    return play(ScriptedEngine(write), setting(template), [episode], params=None)[0]  # type: ignore[arg-type]


THINKING = [
    ("qwen3", "<think>\nThree is needed.\n</think>\n\n"),
    ("qwen3_5_think", "Three is needed.\nAction: none\n</think>\n\n"),
    ("deepseek_r1_distill", "Three is needed.\n</think>\n\n"),
    ("qwen3_5_nothink", ""),
]


@pytest.mark.parametrize(("template", "before"), THINKING)
@pytest.mark.parametrize("special", [True, False])
def test_thoughts_are_read_where_their_tokens_are_special(template: str, before: str, special: bool) -> None:
    said = f"{before}Action: a\nAction Input: {{}}"
    tags = ("<think>", "</think>")
    tokens = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<bos>", "<｜end▁of▁sentence｜>")
    own = spelled_tokenizer(
        tokens + tags * special, template=trl_template(template), added=tags * (not special), bos_token="<bos>"
    )
    chat = chat_of(own)
    ids = own(f"{said}<|im_end|>", add_special_tokens=False)["input_ids"]
    assert chat.text_of(ids) == chat.opening + said
    thought = before.removeprefix("<think>").partition("</think>")[0].strip()
    assert parse(chat.text_of(ids)) == Action("a", {}, thought)
    whole = f"<think>\nhm\n</think>\n\n{said.rpartition('</think>')[2].strip()}"
    assert chat.text_of(chat.reply_ids(whole)) == whole


@pytest.mark.parametrize(("template", "before"), THINKING)
def test_a_thinking_agent_solves_its_task(template: str, before: str) -> None:
    player = played(template, before)
    assert player.episode.outcome is not None
    assert (player.episode.reward, player.episode.outcome.reason, player.episode.outcome.parsed) == (
        1.0,
        "answered",
        [True] * 2,
    )
    (*texts,) = player.written["master"]
    assert all(format_reward(text) == 1.0 and text.count("<think>") == text.count("</think>") for text in texts)
    assert all(text.startswith("<think>\nThree") == bool(before) for text in texts)
    # What the policy goes on from are the tokens that it was shown and wrote: <think> comes from one of the two.
    shown = player.contexts["master"].token_ids
    assert tokenizer().decode(shown).count("<think>") == 2


def test_a_thought_without_an_end_is_malformed() -> None:
    for template, before in (("qwen3_5_think", ""), ("qwen3", "<think>\n")):
        player = played(template, f"{before}hm\n")
        assert player.episode.outcome is not None
        assert (player.episode.reward, player.episode.outcome.reason) == (0.0, "malformed")
    player = played("qwen3_5_think", "hm\n", Limits(malformed="observe", nodes=2))
    assert "got a thought without an end" in player.episode.contexts["master"][3].content


def test_evaluations_read_thoughts_too() -> None:
    engine = ScriptedEngine(lambda policy, prompt, rng: "hm</think>Final Answer: 4")
    episode = Episode(Counter(), ALONE, task=tasks(1)[0])
    policy = EnginePolicy(engine, setting("qwen3_5_think"), SamplingParams())
    assert episode.request is not None
    assert policy.act([episode.request]) == ["<think>\nhm</think>Final Answer: 4"]


def test_a_plain_agents_answer_is_what_it_wrote() -> None:
    """As TRL's reward functions get it: without what the prompt began."""
    episode = Episode(PromptsEnv(), prompt_agents(), task={"prompt": "2 + 2?"}, entry=NAME)
    engine = ScriptedEngine(lambda policy, prompt, rng: "hm</think>4")
    play(engine, setting("qwen3_5_think"), [episode], params=None)  # type: ignore[arg-type]
    assert episode.outcome is not None
    assert episode.outcome.answer == "hm</think>4"


def test_a_run_says_that_its_budget_ends_in_thoughts(tmp_path: Path) -> None:
    own = byte_tokenizer()
    own.chat_template = trl_template("qwen3_5_think")
    run = VRGRPOTrainer(
        qwen3(), arguments(tmp_path / "run", max_steps=1), train_dataset=tasks(2), processing_class=own,
        agents=single_agent(Counter.tools), env_factory=Counter,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="cut off inside <think>, before they came to anything. Raise sampling.max_new_tokens"):
        run.train()
