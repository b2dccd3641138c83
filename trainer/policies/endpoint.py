"""A model behind an OpenAI-compatible endpoint."""

import asyncio
import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

try:
    from httpx2 import ReadTimeout  # of openai's HTTP library: it tries again after one
    from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError
except ImportError as error:
    raise ImportError(f"models behind an endpoint need openai ({error}): pip install 'himakernels[endpoint]'") from error

from trainer.foreign import finish
from trainer.policies.base import STOP, UnansweredError
from trainer.react import THINK, THOUGHT
from trainer.reading import load_json, short
from trainer.types import Request

KEY = "OPENAI_API_KEY"
HOME = "https://api.openai.com/v1"
MAX_BODY = 2**23  # bytes of an answer
MAX_TOKENS = 10**9  # that an answer may say it has
MAX_TOLD = 300  # characters of what the endpoint says of an error
OF_A_REQUEST = (400, 413, 422)  # statuses that say something about one request, such as a context that is too long
LEAST = 4  # characters of a secret that is kept out of messages; a shorter one is none, and would be found in any word
LEAST_ANSWERED = 12  # of one that is kept out of what a model says: "EMPTY", or a version's date in the URL, may be its answer


class EndpointError(UnansweredError):
    """The endpoint did not answer, refused, or answered otherwise than in the API's form, also after the last retry."""


class Reply(NamedTuple):
    """The outcome of a request: a text and its count of tokens, if the endpoint gave one, or an error."""

    text: str = ""
    tokens: int | None = None
    error: EndpointError | None = None


class OpenAIPolicy:
    """Asks the chat completions of an endpoint, several at a time. The key comes from OPENAI_API_KEY.

    Args:
        model: its name there.
        base_url: such as http://localhost:8000/v1, also with a user and a password; None: OpenAI's.
        models: {agent: the name of its model}, such as the adapters that a vLLM server has; others are played by `model`.
        concurrency: requests in flight.
        retries: of a request that failed by the connection, a time-out, 429 or 5xx; the library waits longer each time.
        timeout: seconds of each try, from the connection to the last byte.

    An answer may have at most 8 MiB; redirects are not followed. `failed` has for each request of the last `act` why it got no
    text, or None. `written` is the endpoint's count of completion tokens, None where it gives none or one that can't be.

    Messages name the endpoint without user, password and query; these and the key are left out of what it says of an error, and
    those of at least 12 characters out of what a model says.

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
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout: expected a finite number of seconds above 0, got {timeout}")
        key = os.environ.get(KEY)
        if not key and base_url is None:
            raise ValueError(f"{KEY}: expected the key of OpenAI's endpoint in the environment, got none")
        url = _split(base_url or os.environ.get("OPENAI_BASE_URL") or HOME)
        self.url = urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path.rstrip("/") + "/", "", ""))
        user, password = unquote(url.username or ""), unquote(url.password or "")
        self._auth = (user, password) if url.username is not None else None
        self._secrets = _secrets(key or "", user, password, url)
        # A local endpoint needs no key, but the library wants one.
        self._client: dict[str, Any] = {
            "base_url": urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2])),
            "api_key": key or "none",
            "max_retries": retries,
            "timeout": timeout,
        }
        self._timeout = timeout
        self._model, self._models = model, dict(models or {})
        self._options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_new_tokens, "stop": [STOP]}
        self._concurrency = concurrency
        self.written: list[int] | None = []
        self.failed: list[Exception | None] = []

    def act(self, requests: Sequence[Request]) -> list[str]:
        """The endpoint's text for each request; "" for one that `failed`. Raises: EndpointError if all did."""
        replies: list[Reply] = finish(self._ask(requests))
        self.failed = [reply.error for reply in replies]
        errors = [reply.error for reply in replies if reply.error is not None]
        if errors and len(errors) == len(replies):
            raise max(errors, key=lambda error: error.lasting)
        tokens = [0 if reply.error is not None else reply.tokens for reply in replies]
        counts = [count for count in tokens if count is not None]
        self.written = counts if len(counts) == len(replies) else None
        return [reply.text for reply in replies]

    async def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        free = asyncio.Semaphore(self._concurrency)
        http = _Client(self._timeout, auth=self._auth, headers={"Accept-Encoding": "identity"})
        async with AsyncOpenAI(**self._client, http_client=http) as client:

            async def one(request: Request) -> Reply:
                async with free:
                    return await self._reply(client, request)

            return await asyncio.gather(*map(one, requests))

    async def _reply(self, client: AsyncOpenAI, request: Request) -> Reply:
        messages: Any = [message._asdict() for message in request.messages]
        model = self._models.get(request.agent, self._model)
        try:
            raw = await client.chat.completions.with_raw_response.create(model=model, messages=messages, **self._options)
            text, tokens = read_body(raw.http_response.content)
        except APIStatusError as error:
            if 300 <= error.status_code < 400:
                return self._failed(
                    f"answered {error.status_code}: expected no redirect; base_url wants the last address", lasting=True
                )
            return self._failed(f"answered {error.status_code}: {error.message}", lasting=error.status_code not in OF_A_REQUEST)
        except APIConnectionError as error:
            return self._failed(f"can't be reached: {error.__cause__ or error}", lasting=True)
        except (OpenAIError, ValueError) as error:
            return self._failed(f"answered in another form than chat completions': {error}", lasting=False)
        # Not every endpoint stops, or leaves the stop out.
        text = self._without_secrets(text, LEAST_ANSWERED).partition(STOP)[0]
        if THOUGHT in text and THINK not in text:  # the server's generation prompt has opened the thought
            text = f"{THINK}{text}"
        return Reply(text, tokens)

    def _failed(self, what: str, *, lasting: bool) -> Reply:
        told = self._without_secrets(what)
        told = told if len(told) <= MAX_TOLD else told[:MAX_TOLD] + "..."
        return Reply(error=EndpointError(f"{self.url} {told}", lasting=lasting))

    def _without_secrets(self, text: str, least: int = LEAST) -> str:
        for secret in self._secrets:
            if len(secret) >= least:
                text = text.replace(secret, "***")
        return text


def read_body(body: bytes) -> tuple[str, int | None]:
    """The text of a chat completion and its number of tokens, if it has one.

    Raises: ValueError: name, expected, got.
    """
    if len(body) > MAX_BODY:
        raise ValueError(f"expected at most {MAX_BODY:,} bytes, got more")
    reply = load_json(body, finite=False)
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError(f"choices: expected a list of at least one object, got {short(reply if choices is None else choices)}")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise ValueError(f"choices[0].message: expected an object, got {short(message)}")
    content = message.get("content")
    if not isinstance(content, str | None):
        raise ValueError(f"choices[0].message.content: expected a text or null, got {short(content)}")
    try:
        (content or "").encode()
    except UnicodeEncodeError:
        raise ValueError("choices[0].message.content: expected valid Unicode, got an unpaired surrogate") from None
    usage = reply.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    counted = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MAX_TOKENS
    return content or "", tokens if counted else None


class _Client(DefaultAsyncHttpxClient):
    """Reads every answer to its end, within `seconds` in all and MAX_BODY + 1 bytes: the library's own time-out begins anew
    with each byte, and it reads a redirect of any length before it follows it."""

    def __init__(self, seconds: float, **options: Any) -> None:
        super().__init__(follow_redirects=False, **options)
        self._seconds = seconds

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request and read its whole answer."""
        try:
            async with asyncio.timeout(self._seconds):
                response = await super().send(request, **{**options, "stream": True})
                try:
                    body = await _read(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise ReadTimeout(f"no whole answer within {self._seconds:g} s", request=request) from None
        headers = [(name, value) for name, value in response.headers.items() if name.lower() not in _OF_TRANSFER]
        return type(response)(response.status_code, headers=headers, content=body, request=request)


_OF_TRANSFER = ("content-length", "transfer-encoding", "content-encoding")


async def _read(response: Any) -> bytes:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":  # a few bytes could stand for any number
        raise ValueError(f"content-encoding: expected identity, as was asked for, got {short(encoding)}")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part[: MAX_BODY + 1 - len(body)]
        if len(body) > MAX_BODY:
            break
    return bytes(body)


def _split(text: str) -> SplitResult:
    """The parts of an endpoint's URL. Raises: ValueError, which does not repeat it."""
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or True) and text.isprintable()
    except ValueError:  # its text may hold the password
        good = False
    if not good:
        raise ValueError("base_url: expected a URL such as http://localhost:8000/v1, got another text")
    return url


def _secrets(key: str, user: str, password: str, url: SplitResult) -> list[str]:
    """Every form in which secrets are sent or written; longer ones first, as one may hold another."""
    found = {key, password, url.password or "", url.query, *(value for _, value in parse_qsl(url.query))}
    if password:
        found.add(base64.b64encode(f"{user}:{password}".encode()).decode())
        found.add(f"{url.username}:{url.password}")
    return sorted((secret for secret in found if len(secret) >= LEAST), key=len, reverse=True)
