"""An engine's policies as they are trained, played by `trainer.evaluate`: all requests of a round are one batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Protocol

from trainer.dialogue import TokenContext
from trainer.engine.base import Engine, SamplingParams
from trainer.types import Request


class Policies(Protocol):
    """`trainer.models.Policies` is one."""

    @property
    def tokenizer(self) -> Any:
        """Of all policies."""

    @property
    def policy_of(self) -> Mapping[str, str]:
        """{agent: policy}."""


class EnginePolicy:
    """Goes on in the tokens that it has written itself, as in training. One object plays an episode id once.

    Args:
        temperature: in place of that of `params`; 0 takes the likeliest token.
        max_prompt_tokens: what is asked with a longer prompt is answered with nothing, which is outside the grammar.
        template_kwargs: for the chat template.
        seed: a turn's seed depends on it, on the episode's id and on the node.
    """

    def __init__(
        self,
        engine: Engine,
        policies: Policies,
        params: SamplingParams,
        *,
        temperature: float = 0.0,
        max_prompt_tokens: int | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.engine, self.policies, self.params = engine, policies, replace(params, temperature=temperature)
        self.max_prompt_tokens, self.template_kwargs, self.seed = max_prompt_tokens, template_kwargs, seed
        self.written: list[int] | None = []
        self._contexts: dict[tuple[str, str], TokenContext] = {}

    def act(self, requests: Sequence[Request]) -> list[str]:
        """What each request's agent writes. Raises: ValueError for an agent without a policy; what the engine raises."""
        contexts = [self._context(request) for request in requests]
        limit = self.max_prompt_tokens
        asked = [i for i, context in enumerate(contexts) if limit is None or len(context.token_ids) <= limit]
        found = self.engine.generate(
            [contexts[i].token_ids for i in asked],
            1,
            self.params,
            [self._policy(requests[i].agent) for i in asked],
            [self._seed(requests[i]) for i in asked],
        )
        texts, self.written = [""] * len(requests), [0] * len(requests)
        for i, (sample,) in zip(asked, found, strict=True):
            contexts[i].append(sample.token_ids)
            texts[i] = contexts[i].text_of(sample.token_ids)
            self.written[i] = len(sample.token_ids)
        return texts

    def _context(self, request: Request) -> TokenContext:
        key = (request.episode_id, request.agent)
        if key not in self._contexts:
            self._contexts[key] = TokenContext(self.policies.tokenizer, template_kwargs=self.template_kwargs)
        context = self._contexts[key]
        context.sync(request.messages)
        return context

    def _policy(self, agent: str) -> str:
        if agent not in self.policies.policy_of:
            raise ValueError(f"policies: expected one for agent {agent!r}, got {', '.join(self.policies.policy_of)}")
        return self.policies.policy_of[agent]

    def _seed(self, request: Request) -> int:
        text = f"{self.seed}/{request.episode_id}/{request.node}"
        return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") >> 1
