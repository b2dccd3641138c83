"""Sampling without a model: an engine whose texts a function writes, and a small hierarchy over a counter."""

import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trainer.agents import Agent, delegation
from trainer.dialogue import CHATML
from trainer.env import Step
from trainer.react import Action, Answer, render
from trainer.rewards import Reward
from trainer.types import Sample
from trainer.vrgrpo import NodeGroup, Sibling

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "adds to the counter.",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    },
}
AGENTS = {
    "master": Agent("master", "plans.", (delegation("adder", "counts."),), ("adder",)),
    "adder": Agent("adder", "counts.", (ADD,)),
}
ALONE = {"master": Agent("master", "counts.", (ADD,))}


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, and ChatML's two."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>", "<|im_end|>"]
    )
    made.chat_template = CHATML
    return made


def policies() -> Any:
    """A policy for each agent."""
    return SimpleNamespace(tokenizer=tokenizer(), policy_of={name: f"{name}-policy" for name in AGENTS})


class ScriptedEngine:
    """write(policy, prompt, rng) -> the text of a turn; rng is seeded by the request's seed. `rounds` keeps what was asked."""

    def __init__(self, write: Callable[[str, str, random.Random], str], version: Callable[[], int] = lambda: 3) -> None:
        self.write, self.version = write, version
        self.rounds: list[list[tuple[str, str, int]]] = []

    def generate(
        self, prompts: Sequence[Sequence[int]], n: Any, params: Any, policy: Any, seeds: Any = None
    ) -> list[list[Sample]]:
        assert n == 1
        assert len(prompts) == len(policy) == len(seeds)
        texts = [tokenizer().decode(list(prompt)) for prompt in prompts]
        self.rounds.append(list(zip(policy, texts, seeds, strict=True)))
        return [[self._sample(*asked)] for asked in self.rounds[-1]]

    def _sample(self, policy: str, prompt: str, seed: int) -> Sample:
        text = self.write(policy, prompt, random.Random(seed))
        ids = (*tokenizer()(text)["input_ids"], tokenizer().eos_token_id)
        return Sample(ids, tuple(-0.5 for _ in ids), "stop", self.version())


def told(prompt: str) -> list[str]:
    """What an agent has been told: its task, then its observations."""
    parts = prompt.split("<|im_start|>user\n")[1:]
    return [part.split("<|im_end|>")[0].removeprefix("Observation: ") for part in parts]


class Counter:
    """A counter that starts at 0; an answer is right if it is the counter's value and that is the task's target."""

    tools = (ADD,)
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.value = 0

    def reset(self, task: Any, seed: int = 0) -> str:
        self.task, self.value = task, 0
        return str(task["query"])

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        if isinstance(action, Action):
            self.value += action.arguments["n"]
            return Step(str(self.value))
        right = action is not None and action.text == str(self.value) == str(self.task["target"])
        return Step("", float(right), True)

    def snapshot(self) -> Any:
        return self.task, self.value

    def restore(self, state: Any) -> None:
        self.task, self.value = state


def add(n: int) -> str:
    return render(Action("add", {"n": n}))


def ask(task: str) -> str:
    return render(Action("adder", {"task": task}))


def say(text: str) -> str:
    return render(Answer(text))


def hierarchy(policy: str, prompt: str, rng: random.Random) -> str:
    """The master asks the adder and repeats its answer; the adder adds 1 or 2, says the sum. Five nodes, if all goes well."""
    heard = told(prompt)
    if "master" in policy:
        return ask("Count to 3.") if len(heard) == 1 else say(heard[-1])
    return add(rng.choice([1, 2])) if len(heard) < 3 else say(heard[-1])


def tasks(count: int, target: int = 3) -> list[dict[str, Any]]:
    return [{"id": f"count-{i}", "query": f"Count {i}.", "target": target, "minimal_calls": 3} for i in range(count)]


def sibling(reward: float, **fields: Any) -> Sibling:
    given = {
        "token_ids": (5, 2), "rollout_logprobs": (-0.1, -0.2), "finish_reason": "stop", "text": "Final Answer: x",
        "terms": Reward(reward, 0.0, 0.0), "parsed": True, "calls": 1, "reason": "answered",
        "error": "failed" if math.isnan(reward) else None, "texts": ("Final Answer: x",),
    }  # fmt: skip
    return Sibling(**given | fields)


def group(rewards: Sequence[float], task: int = 0, agent: str = "qa", **fields: Any) -> NodeGroup:
    given = {
        "task": task, "task_id": f"t{task}", "agent": agent, "policy": agent, "policy_version": 0, "node": 0,
        "prompt_ids": (1, 2, 3), "siblings": tuple(sibling(reward) for reward in rewards), "query": "q", "used": (),
        "written": 0,
    }  # fmt: skip
    return NodeGroup(**given | fields)
