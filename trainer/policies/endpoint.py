"""A model behind an OpenAI-compatible endpoint."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openai import APIConnectionError, APIError, APIStatusError, OpenAI

from trainer.policies.base import STOP
from trainer.types import Request

KEY = "OPENAI_API_KEY"


class EndpointError(ConnectionError):
    """The endpoint did not answer, refused, or answered otherwise than in the API's form, also after the last retry."""


class OpenAIPolicy:
    """Asks the chat completions of an endpoint, several at a time. The key comes from OPENAI_API_KEY.

    Args:
        model: its name there.
        base_url: such as http://localhost:8000/v1; None: OpenAI's.
        models: {agent: the name of its model}, such as the adapters that a vLLM server has; others are played by `model`.
        concurrency: requests in flight.
        retries: of a request that failed by the connection, a time-out, 429 or 5xx; the library waits longer each time.

    `written` is the endpoint's count of completion tokens, None where it gives none.

    Raises: ValueError for settings out of range, and without a base_url where there is no key.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        models: Mapping[str, str] | None = None,
        temperature: float = 0.0,
        max_new_tokens: int = 256,
        concurrency: int = 8,
        retries: int = 4,
        timeout: float = 120.0,
    ) -> None:
        if concurrency < 1 or max_new_tokens < 1 or retries < 0 or not 0 <= temperature < float("inf"):
            got = f"{concurrency}, {max_new_tokens}, {retries}, {temperature}"
            raise ValueError(f"concurrency, max_new_tokens: expected at least 1, retries, temperature: at least 0, got {got}")
        key = os.environ.get(KEY)
        if not key and base_url is None:
            raise ValueError(f"{KEY}: expected the key of OpenAI's endpoint in the environment, got none")
        # A local endpoint needs no key, but the library wants one.
        self._client = OpenAI(base_url=base_url, api_key=key or "none", max_retries=retries, timeout=timeout)
        self._model, self._models = model, dict(models or {})
        self._options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_new_tokens, "stop": [STOP]}
        self._concurrency = concurrency
        self.written: list[int] | None = []

    def act(self, requests: Sequence[Request]) -> list[str]:
        """What the endpoint writes for each request. Raises: EndpointError."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            replies = list(pool.map(self._reply, requests))
        counts = [count for _, count in replies if count is not None]
        self.written = counts if len(counts) == len(replies) else None
        return [text for text, _ in replies]

    def _reply(self, request: Request) -> tuple[str, int | None]:
        messages: Any = [message._asdict() for message in request.messages]
        model = self._models.get(request.agent, self._model)
        try:
            reply = self._client.chat.completions.create(model=model, messages=messages, **self._options)
        except APIStatusError as error:
            raise EndpointError(f"{self._client.base_url} answered {error.status_code}: {error.message}") from error
        except APIConnectionError as error:
            raise EndpointError(f"{self._client.base_url} can't be reached: {error.__cause__ or error}") from error
        except (APIError, ValueError) as error:  # ValueError: a body that isn't the JSON that it says it is
            raise EndpointError(f"{self._client.base_url} answered in another form than chat completions': {error}") from error
        choices = getattr(reply, "choices", None)
        if not choices:
            raise EndpointError(
                f"{self._client.base_url} answered in another form than chat completions': {str(reply)[:200]!r}"
            )
        text = (choices[0].message.content or "").partition(STOP)[0]  # not every endpoint stops, or leaves the stop out
        return text, None if reply.usage is None else reply.usage.completion_tokens
