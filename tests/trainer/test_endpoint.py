"""An endpoint that says anything: what it costs, what is kept, and what is never told."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from trainer.agents import single_agent
from trainer.cli import main
from trainer.env import Step
from trainer.evaluate import Job, Report, evaluate_jobs
from trainer.policies import endpoint
from trainer.policies.endpoint import EndpointError, OpenAIPolicy, read_body
from trainer.types import Message, Request

GOOD = {"role": "assistant", "content": "Final Answer: yes"}


def body(**changes: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8}
    return {"choices": [{"index": 0, "message": GOOD}], "usage": usage, **changes}


def told(content: object) -> dict[str, Any]:
    return body(choices=[{"message": {"role": "assistant", "content": content}}])


MALFORMED = {
    "a text as choices": (body(choices="abc"), "choices: expected a list of at least one object, got 'abc'"),
    "no choices": (body(choices=[]), r"choices: expected a list of at least one object, got \[\]"),
    "a number as choice": (body(choices=[3]), r"choices: expected a list of at least one object, got \[3\]"),
    "no message": (body(choices=[{"message": None}]), r"choices\[0\].message: expected an object, got None"),
    "a text as message": (body(choices=[{"message": "x"}]), r"choices\[0\].message: expected an object, got 'x'"),
    "a list as content": (told(["x"]), r"choices\[0\].message.content: expected a text or null, got \['x'\]"),
    "a number as content": (told(3), r"choices\[0\].message.content: expected a text or null, got 3"),
    "a surrogate": (told("\ud800"), r"choices\[0\].message.content: expected valid Unicode, got an unpaired surrogate"),
    "a list": ([1, 2], r"choices: expected a list of at least one object, got \[1, 2\]"),
    "null": (None, "choices: expected a list of at least one object, got None"),
    "deep": ('{"choices": ' + "[" * 100_000 + "]" * 100_000 + "}", "expected at most 64 levels of nesting, got more"),
    "cut off": ('{"choices": [', "Expecting value"),
    "no JSON": ("<html>", "Expecting value"),
    "no UTF-8": (b"\xff", "utf-8"),
}


def encoded(value: object) -> bytes:
    return value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()


@pytest.mark.parametrize("name", MALFORMED)
def test_a_body_of_another_form_is_named(name: str) -> None:
    value, wrong = MALFORMED[name]
    with pytest.raises(ValueError, match=wrong):
        read_body(encoded(value))


@pytest.mark.parametrize("tokens", ["-5", "NaN", "1" + "0" * 400, "1e400", "true", '"7"', "7.5", "null", "[]", "1000000001"])
def test_a_count_that_is_none_does_not_count(tokens: str) -> None:
    text = json.dumps(body(usage={"completion_tokens": "HERE"})).replace('"HERE"', tokens)
    assert read_body(text.encode()) == ("Final Answer: yes", None)


@pytest.mark.parametrize("usage", [None, 3, [], "x", {}])
def test_other_usage_does_not_count(usage: object) -> None:
    assert read_body(encoded(body(usage=usage))) == ("Final Answer: yes", None)
    assert read_body(encoded(body(usage={"completion_tokens": 0}))) == ("Final Answer: yes", 0)
    assert read_body(encoded(told(None)))[0] == ""


class Server(BaseHTTPRequestHandler):
    """Answers a model's name with what `bodies` holds, or as the name says."""

    bodies: ClassVar[dict[str, object]] = {}
    asked: ClassVar[int] = 0
    auth: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["model"]
        Server.asked += 1
        Server.auth.add(self.headers["Authorization"])
        with suppress(OSError):
            if name == "slow":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
                self._drip()
            elif name == "slow head":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                self._drip()
            elif name == "endless":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
                while True:
                    self.wfile.write(b" " * 2**16)
            elif name == "redirect":
                self.wfile.write(b"HTTP/1.1 308 Permanent Redirect\r\nLocation: /v2/chat/completions\r\n\r\n")
                while True:
                    self.wfile.write(b" " * 2**16)
            elif name == "echo" or (name == "dies" and Server.asked > 2):
                self._send(403, {"error": {"message": f"{self.headers['Authorization']} is not known"}})
            elif name == "zipped":
                self._send(200, body(), {"Content-Encoding": "gzip"})
            else:
                task = asked["messages"][-1]["content"].removeprefix("Task: ")
                self._send(200, Server.bodies.get(task, body()))

    def _drip(self) -> None:
        for _ in range(100):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.1)

    def _send(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        data = encoded(value)
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    Server.asked, Server.bodies = 0, {name: value for name, (value, _) in MALFORMED.items()}
    Server.auth.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


class Asked:
    """The answer is right."""

    tools: ClassVar[list[dict[str, Any]]] = []

    def reset(self, task: Any, seed: int = 0) -> str:
        return str(task)

    def step(self, action: Any, *, agent: str | None = None) -> Step:
        return Step("", 1.0, True)

    def snapshot(self) -> Any:
        raise AssertionError

    def restore(self, state: Any) -> None:
        raise AssertionError


def evaluated(policy: OpenAIPolicy, tasks: list[str], **options: Any) -> Report:
    jobs = [Job(id=task, column="coin", task=task, minimal_calls=0) for task in tasks]
    return evaluate_jobs(policy, jobs, Asked, single_agent([]), entry="assistant", **options)


def asked(policy: OpenAIPolicy) -> list[str]:
    return policy.act([Request("assistant", (Message("user", "Task: x"),), "e", 0)])


@pytest.mark.parametrize("parallel", [1, 256])
def test_a_malformed_answer_costs_its_episode_only(port: int, parallel: int) -> None:
    policy = OpenAIPolicy("m", base_url=f"http://127.0.0.1:{port}/v1", retries=0)
    report = evaluated(policy, ["first", *MALFORMED, "last"], parallel=parallel)
    assert [played.accuracy for played in report.episodes] == [1.0, *[0.0] * len(MALFORMED), 1.0]
    assert len(report.errors) == len(MALFORMED)
    for played in report.errors:
        assert played.error is not None
        assert played.error.startswith(f"EndpointError: http://127.0.0.1:{port}/v1/ answered in another form than chat comp")
    assert report.counted == "tokenizer"
    assert report.episodes[0].written == 7
    assert f"{len(MALFORMED)} ended by an error and count as unsolved" in report.table()


def test_an_endpoint_that_dies_leaves_what_was_played(port: int) -> None:
    policy = OpenAIPolicy("dies", base_url=f"http://127.0.0.1:{port}/v1", retries=0)
    report = evaluated(policy, ["a", "b", "c", "d"], parallel=1)
    assert [played.accuracy for played in report.episodes] == [1.0, 1.0, 0.0, 0.0]
    assert all("answered 403" in str(played.error) for played in report.errors)
    with pytest.raises(EndpointError, match="answered 403"):
        evaluated(OpenAIPolicy("echo", base_url=f"http://127.0.0.1:{port}/v1", retries=0), ["a"])


@pytest.mark.parametrize("model", ["slow", "slow head"])
def test_the_time_out_is_that_of_the_whole_answer(port: int, model: str) -> None:
    begin = time.monotonic()
    with pytest.raises(EndpointError, match=r"no whole answer within 0\.5 s"):
        asked(OpenAIPolicy(model, base_url=f"http://127.0.0.1:{port}/v1", retries=0, timeout=0.5))
    assert time.monotonic() - begin < 5


def test_an_endless_or_a_compressed_body_is_not_read(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MAX_BODY", 2**20)
    with pytest.raises(EndpointError, match="another form than chat completions': expected at most 1,048,576 bytes, got more"):
        asked(OpenAIPolicy("endless", base_url=f"http://127.0.0.1:{port}/v1", retries=0))
    with pytest.raises(EndpointError, match="content-encoding: expected identity, as was asked for, got 'gzip'"):
        asked(OpenAIPolicy("zipped", base_url=f"http://127.0.0.1:{port}/v1", retries=0))


def test_a_redirect_is_not_followed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one has an endless body, which the library would read first."""
    monkeypatch.setattr(endpoint, "MAX_BODY", 2**20)
    begin = time.monotonic()
    with pytest.raises(EndpointError, match="/v1/ answered 308: expected no redirect; base_url wants the last address"):
        asked(OpenAIPolicy("redirect", base_url=f"http://127.0.0.1:{port}/v1", retries=0, timeout=20.0))
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(("key", "query"), [("EMPTY", ""), ("dummy", ""), ("x", "?api-version=2024-06-01"), ("", "?a=plain")])
def test_what_a_model_says_is_not_taken_for_a_secret(port: int, monkeypatch: pytest.MonkeyPatch, key: str, query: str) -> None:
    """Local servers take any key, and an Azure URL has a date."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    said = f"Final Answer: EMPTY, a dummy, on 2024-06-01, plain: {key}"
    Server.bodies["x"] = told(said)
    assert asked(OpenAIPolicy("m", base_url=f"http://127.0.0.1:{port}/v1{query}")) == [said]


@pytest.mark.parametrize("missing", ["openai", "httpx2"])
def test_a_missing_library_is_named(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import trainer.policies.endpoint"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("ImportError: models behind an endpoint need openai (")
    assert last.endswith("): pip install 'himakernels[endpoint]'")


def test_no_secret_is_told(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the URL or the key: not by an error of its own, not where the endpoint repeats it, not in the report."""
    place = f"someone:pa%20ssword@127.0.0.1:{port}/v1?api-key=hidden-as-well"
    policy = OpenAIPolicy("echo", base_url=f"http://{place}", retries=0)
    with pytest.raises(EndpointError, match=r"answered 403.*Basic \*\*\* is not known") as error:
        asked(policy)
    assert Server.auth == {"Basic c29tZW9uZTpwYSBzc3dvcmQ="}
    texts = [str(error.value), repr(error.value), str(policy.failed), policy.url]
    with pytest.raises(EndpointError, match=r"answered 403.*Bearer \*\*\* is not known") as error:
        asked(OpenAIPolicy("echo", base_url=f"http://127.0.0.1:{port}/v1", retries=0))
    texts.append(str(error.value))
    Server.bodies["x"] = told("Final Answer: sk-very-secret")
    assert asked(OpenAIPolicy("m", base_url=f"http://127.0.0.1:{port}/v1")) == ["Final Answer: ***"]
    arguments = ["eval", "--policy", "echo", "--columns", "qa", "--per-column", "1", "--out", str(tmp_path / "a.json")]
    assert main([*arguments, "--base-url", f"http://{place}"]) == 2
    assert main([*arguments, "--base-url", "ftp://someone:pa%20ssword@host"]) == 2
    assert main([*arguments, "--base-url", "http://someone:pa%20ssword@host:port"]) == 2
    texts += list(capsys.readouterr())
    assert all("base_url: expected a URL" in text for text in texts[-1].splitlines()[-2:])
    for secret in ("pa%20ssword", "pa ssword", "sk-very-secret", "c29tZW9uZTpwYSBzc3dvcmQ", "hidden-as-well"):
        assert not any(secret in text for text in texts), secret
