"""Random legal calls: any tool of the agent with any arguments that its schema allows."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.agents import Agent
from trainer.policies.base import generator
from trainer.react import Action, Answer, render
from trainer.types import Request

MAX_ITEMS = 4  # of a random array
MAX_WORDS = 8  # of a random answer
_WORD = re.compile(r"[\w.@/-]+")


class RandomPolicy:
    """Calls a random tool with random arguments, or, with probability `answer`, answers with a few random words of its context.

    Texts in arguments are words that the agent has read, so that an id or an e-mail address may well be a real one.
    """

    def __init__(self, agents: Mapping[str, Agent], *, seed: int = 0, answer: float = 0.3) -> None:
        if not 0.0 < answer <= 1.0:
            raise ValueError(f"answer: expected above 0 and at most 1, got {answer}")
        self._agents, self._seed, self._answer = agents, seed, answer

    def act(self, requests: Sequence[Request]) -> list[str]:
        """A call or an answer for each."""
        return [self._text(request) for request in requests]

    def _text(self, request: Request) -> str:
        rng = generator(self._seed, request)
        words = [word for message in request.messages[1:] for word in _WORD.findall(message.content)] or ["word"]
        tools = self._agents[request.agent].tools
        if not tools or rng.random() < self._answer:
            return render(Answer(" ".join(rng.choices(words, k=rng.randint(1, MAX_WORDS)))))
        function = rng.choice(tools)["function"]
        return render(Action(function["name"], random_value(function["parameters"], rng, words)))


def random_value(schema: Mapping[str, Any], rng: random.Random, words: Sequence[str]) -> Any:
    """A value that the JSON schema allows. Raises: ValueError for a type that JSON schema doesn't have."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "anyOf" in schema:
        return random_value(rng.choice(schema["anyOf"]), rng, words)
    kind = schema.get("type", "string")
    if isinstance(kind, list):
        kind = rng.choice(kind)
    if kind == "object":
        required = schema.get("required", ())
        chosen = [item for item in schema.get("properties", {}).items() if item[0] in required or rng.random() < 0.5]
        return {name: random_value(inner, rng, words) for name, inner in chosen}
    if kind == "array":
        fewest = schema.get("minItems", 0)
        count = rng.randint(fewest, max(fewest, min(MAX_ITEMS, schema.get("maxItems", MAX_ITEMS))))
        return [random_value(schema.get("items", {}), rng, words) for _ in range(count)]
    if kind == "string":
        text = " ".join(rng.choices(words, k=rng.randint(1, 3)))
        return text[: schema.get("maxLength", len(text))]
    if kind in ("integer", "number"):
        low = schema.get("minimum", 0)
        high = max(low, schema.get("maximum", low + 100))
        return rng.randint(low, high) if kind == "integer" else round(rng.uniform(low, high), 2)
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    raise ValueError(f"schema: expected a type of JSON schema, got {kind!r}")
