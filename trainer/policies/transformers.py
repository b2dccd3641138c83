"""A causal language model from transformers, with an adapter for each agent where there are some."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from trainer.chat import chat_of, ends_of_turn
from trainer.checksums import naming
from trainer.dialogue import TokenContext
from trainer.policies.base import STOP
from trainer.pretrained import load_model, load_tokenizer
from trainer.types import Request


class TransformersPolicy:
    """Generates each node in batches, left-padded, agents with an adapter of their own one after another.

    Args:
        model: a name on the hub or a folder.
        adapters: {agent: folder of a PEFT adapter}; an agent without one gets the bare model.
        temperature: 0 is greedy.
        batch_size: nodes generated at a time.
        max_new_tokens: of one node; a node that is cut off there is judged as it stands.

    Of the model's own generation settings only what ends a turn counts (`trainer.chat`): a penalty or a cut of the distribution
    that it comes with would be another policy than the one that is trained.

    Raises: ValueError for settings out of range; OSError where transformers finds no such model.
    """

    def __init__(
        self,
        model: str,
        *,
        adapters: Mapping[str, str] | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature: expected at least 0 and finite, got {temperature}")
        if max_new_tokens < 1 or batch_size < 1:
            raise ValueError(f"max_new_tokens, batch_size: expected at least 1, got {max_new_tokens}, {batch_size}")
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ValueError(f"dtype: expected the name of a torch type, such as bfloat16, got {dtype!r}")
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
            raise ValueError(f"device: expected one that torch can use, got {device!r}: {error}") from error
        self.tokenizer = load_tokenizer(model, padding_side="left")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        loaded: Any = load_model(model, getattr(torch, dtype))
        self.model = loaded.to(device).eval()
        ends = ends_of_turn(self.tokenizer, models=[self.model])
        self._ends = {*ends, self.tokenizer.pad_token_id}
        self.model.generation_config = GenerationConfig(
            eos_token_id=list(ends),
            pad_token_id=self.tokenizer.pad_token_id,
            max_new_tokens=max_new_tokens,
            stop_strings=[STOP],
            **(
                {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
                if temperature
                else {"do_sample": False}
            ),
        )
        self._adapters = dict(adapters or {})
        if self._adapters:
            from peft import PeftModel

            for name, place in self._adapters.items():
                with naming(place, f"a PEFT adapter of {model}"):
                    if isinstance(self.model, PeftModel):
                        self.model.load_adapter(place, adapter_name=name)
                    else:
                        self.model = PeftModel.from_pretrained(self.model, place, adapter_name=name)
        if temperature:
            torch.manual_seed(seed)
        self._batch_size = batch_size
        self.written: list[int] | None = []

    def act(self, requests: Sequence[Request]) -> list[str]:
        """What the model writes for each request."""
        texts, written = [""] * len(requests), [0] * len(requests)
        for agent in dict.fromkeys(request.agent for request in requests):
            # Of similar length together, so that little is padding.
            own = [(i, self._prompt(request)) for i, request in enumerate(requests) if request.agent == agent]
            own.sort(key=lambda item: len(item[1]))
            for at in range(0, len(own), self._batch_size):
                batch = own[at : at + self._batch_size]
                for (i, _), token_ids in zip(batch, self._generate(agent, [prompt for _, prompt in batch]), strict=True):
                    written[i] = len(token_ids)
                    texts[i] = chat_of(self.tokenizer).text_of(token_ids).partition(STOP)[0]
        self.written = written
        return texts

    def _prompt(self, request: Request) -> list[int]:
        context = TokenContext(self.tokenizer)
        for at, message in enumerate(request.messages):
            if message.role == "assistant":
                context.sync(request.messages[:at])
                context.append(context.reply_ids(message.content))
        context.sync(request.messages)
        return context.token_ids

    @torch.no_grad()
    def _generate(self, agent: str, prompts: Sequence[list[int]]) -> list[list[int]]:
        padded = self.tokenizer.pad({"input_ids": list(prompts)}, return_tensors="pt").to(self.model.device)
        length = padded["input_ids"].shape[1]
        arguments = dict(padded) | {"tokenizer": self.tokenizer}
        if not self._adapters:
            out = self.model.generate(**arguments)
        elif agent in self._adapters:
            self.model.set_adapter(agent)
            out = self.model.generate(**arguments)
        else:
            with self.model.disable_adapter():
                out = self.model.generate(**arguments)
        return [_until(row, self._ends) for row in out[:, length:].tolist()]


def _until(token_ids: list[int], ends: set[int]) -> list[int]:
    return token_ids[: next((i for i, token in enumerate(token_ids) if token in ends), len(token_ids))]
