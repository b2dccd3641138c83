"""A model behind an OpenAI-compatible endpoint."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from openai import APIConnectionError, APIStatusError, OpenAI

from trainer.policies.base import Policy
from trainer.types import Request

STOP = ["\nObservation:"]


class EndpointError(RuntimeError):
    """The endpoint did not answer, or refused, also after the last retry."""


class OpenAIPolicy(Policy):
    """Asks the chat completions of an endpoint, several at a time. The key comes from OPENAI_API_KEY.

    Args:
        model: its name there.
        base_url: such as http://localhost:8000/v1; None: OpenAI's.
        concurrency: requests in flight.
        retries: of a request that failed by the connection, a time-out, 429 or 5xx; the library waits longer each time.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float = 0.0,
        max_new_tokens: int = 256,
        concurrency: int = 8,
        retries: int = 4,
        timeout: float = 120.0,
    ) -> None:
        # A local endpoint needs no key, but the library wants one.
        key = api_key if api_key is not None or base_url is None else "none"
        self._client = OpenAI(base_url=base_url, api_key=key, max_retries=retries, timeout=timeout)
        self._options = {"model": model, "temperature": temperature, "max_tokens": max_new_tokens, "stop": STOP}
        self._concurrency = concurrency
        self.written: list[int] = []

    def act(self, requests: Sequence[Request]) -> list[str]:
        """What the endpoint writes for each request. Raises: EndpointError."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            replies = list(pool.map(self._reply, requests))
        self.written = [count for _, count in replies]
        return [text for text, _ in replies]

    def _reply(self, request: Request) -> tuple[str, int]:
        messages = [message._asdict() for message in request.messages]
        try:
            reply = self._client.chat.completions.create(messages=messages, **self._options)
        except APIStatusError as error:
            raise EndpointError(f"{self._client.base_url} answered {error.status_code}: {error.message}") from error
        except APIConnectionError as error:
            raise EndpointError(f"{self._client.base_url} can't be reached: {error}") from error
        text = reply.choices[0].message.content or ""
        return text, reply.usage.completion_tokens if reply.usage is not None else len(text.split())
