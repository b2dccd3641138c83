"""Policies that ask a model: one of transformers, one behind an endpoint; both made in the test."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trainer.agents import single_agent
from trainer.dialogue import CHATML
from trainer.env import Step
from trainer.evaluate import Job, evaluate_jobs
from trainer.policies.endpoint import EndpointError, OpenAIPolicy
from trainer.policies.transformers import TransformersPolicy
from trainer.types import Message, Request


def request(agent: str, *contents: str, episode: str = "e") -> Request:
    roles = ["user", "assistant"] * len(contents)
    turns = [Message(role, text) for role, text in zip(roles, contents, strict=False)]  # type: ignore[arg-type]
    return Request(agent, (Message("system", "Be exact."), *turns), episode, len(contents) // 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a byte tokenizer, and an adapter for one agent."""
    path = tmp_path_factory.mktemp("model")
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(special + alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", chat_template=CHATML)
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(path)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(path / "adapter")
    return path


def test_a_batch_writes_what_each_request_gets_alone(folder: Path) -> None:
    policy = TransformersPolicy(str(folder), max_new_tokens=12)
    asked = [request("qa", "Task: one"), request("qa", "Task: something much longer than the others", "a", "Observation: 3")]
    together = policy.act(asked)
    assert policy.written == [12, 12]
    assert together == [policy.act([one])[0] for one in asked]


def test_an_agent_speaks_through_its_own_adapter(folder: Path) -> None:
    plain = TransformersPolicy(str(folder), max_new_tokens=12)
    policy = TransformersPolicy(str(folder), adapters={"qa": str(folder / "adapter")}, max_new_tokens=12)
    qa, master = policy.act([request("qa", "Task: one"), request("master", "Task: one")])
    assert master == plain.act([request("master", "Task: one")])[0]
    assert qa != master


def test_only_the_end_counts_of_a_models_own_settings(folder: Path, tmp_path: Path) -> None:
    """A repetition penalty that a model comes with would change what it writes; its own ends of sequence do not get lost."""
    asked = [request("qa", "Task: one")]
    plain = TransformersPolicy(str(folder), max_new_tokens=12)
    (text,) = plain.act(asked)
    letter = next(letter for letter in text if letter.isascii())
    (token,) = plain.tokenizer(letter, add_special_tokens=False)["input_ids"]
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    settings = {"repetition_penalty": 9.0, "temperature": 5.0, "do_sample": True, "no_repeat_ngram_size": 1}
    (own / "generation_config.json").write_text(json.dumps(settings))
    assert TransformersPolicy(str(own), max_new_tokens=12).act(asked) == [text]
    (own / "generation_config.json").write_text(json.dumps({"eos_token_id": [token, 1]}))
    ended = TransformersPolicy(str(own), max_new_tokens=12)
    assert ended.act(asked) == [text.partition(letter)[0]]
    assert ended.written is not None
    assert ended.written[0] < 12


def test_sampling_is_of_the_temperature_and_of_the_seed(folder: Path) -> None:
    asked = [request("qa", "Task: one")]
    texts = [TransformersPolicy(str(folder), max_new_tokens=12, temperature=1.0, seed=seed).act(asked) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_settings_out_of_range_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="temperature: expected at least 0 and finite, got -1"):
        TransformersPolicy(str(folder), temperature=-1)
    with pytest.raises(ValueError, match="temperature: expected at least 0 and finite, got nan"):
        TransformersPolicy(str(folder), temperature=float("nan"))
    with pytest.raises(ValueError, match="expected at least 1, got 0, 16"):
        TransformersPolicy(str(folder), max_new_tokens=0)
    with pytest.raises(ValueError, match="dtype: expected the name of a torch type, such as bfloat16, got 'tensor'"):
        TransformersPolicy(str(folder), dtype="tensor")
    with pytest.raises(OSError, match="no-such-model"):
        TransformersPolicy("./no-such-model")


class Endpoint(BaseHTTPRequestHandler):
    """Says how many messages it got, and goes on after the stop; the first request fails. Models of other names misbehave."""

    failures = 1
    keys: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Endpoint.keys.add(self.headers["Authorization"])
        status = 403 if body["model"] == "locked" else 503 if Endpoint.failures > 0 else 200
        Endpoint.failures -= status == 503
        text = f"{len(body['messages'])} {body['model']}{body['stop'][0]} 7"
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        }
        if body["model"] == "empty":
            reply["choices"] = []
        if body["model"] != "uncounted":
            reply["usage"] = {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8}
        data = json.dumps(reply if status == 200 else {"error": {"message": "not now"}}).encode()
        page = body["model"] == "page"
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Content-Length", str(6 if page else len(data)))
        self.end_headers()
        self.wfile.write(b"<html>" if page else data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Endpoint.failures = 0
    Endpoint.keys.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_asked_in_order_and_again_after_a_failure(url: str) -> None:
    Endpoint.failures = 1
    policy = OpenAIPolicy("m", base_url=url, concurrency=2)
    asked = [request("qa", *["x"] * n) for n in (1, 3, 5)]
    assert policy.act(asked) == ["2 m", "4 m", "6 m"]
    assert policy.written == [7, 7, 7]


def test_an_agent_has_its_own_model_at_an_endpoint(url: str) -> None:
    policy = OpenAIPolicy("m", base_url=url, models={"qa": "m-qa"})
    assert policy.act([request("qa", "x"), request("master", "x")]) == ["2 m-qa", "2 m"]


def test_a_thought_that_the_servers_prompt_began_is_whole(url: str) -> None:
    for model, text in (("hm</think>", "<think>2 hm</think>"), ("<think>hm</think>", "2 <think>hm</think>")):
        assert OpenAIPolicy(model, base_url=url).act([request("qa", "x")]) == [text]


def test_the_key_is_that_of_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    OpenAIPolicy("m", base_url=url).act([request("qa", "x")])
    assert Endpoint.keys == {"Bearer none"}
    with pytest.raises(ValueError, match="OPENAI_API_KEY: expected the key of OpenAI's endpoint in the environment, got none"):
        OpenAIPolicy("m")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    OpenAIPolicy("m", base_url=url).act([request("qa", "x")])
    assert "Bearer secret" in Endpoint.keys


def test_an_endpoint_that_does_not_count_is_counted_by_rule(url: str) -> None:
    policy = OpenAIPolicy("uncounted", base_url=url)
    agents = single_agent([])
    job = Job(id="a", column="coin", task="x", minimal_calls=0)
    report = evaluate_jobs(policy, [job], Silent, agents, entry="assistant")
    assert policy.written is None
    assert (report.counted, report.average.written) == ("rule", 3.0)
    counted = evaluate_jobs(OpenAIPolicy("m", base_url=url), [job], Silent, agents, entry="assistant")
    assert (counted.counted, counted.average.written) == ("tokenizer", 7.0)


class Silent:
    """An environment that is never reached: the endpoint's texts are malformed."""

    tools: ClassVar[list[dict[str, Any]]] = []

    def reset(self, task: Any, seed: int = 0) -> str:
        return str(task)

    def step(self, action: Any, *, agent: str | None = None) -> Step:
        raise AssertionError

    def snapshot(self) -> Any:
        raise AssertionError

    def restore(self, state: Any) -> None:
        raise AssertionError


def test_an_endpoint_that_refuses_or_says_something_else_is_named(url: str) -> None:
    for model, message in (
        ("locked", r"127.0.0.1.*answered 403.*not now"),
        ("empty", "another form than chat completions"),
        ("page", "another form than chat completions"),
    ):
        with pytest.raises(EndpointError, match=message):
            OpenAIPolicy(model, base_url=url, retries=0).act([request("qa", "x")])
    Endpoint.failures = 2
    with pytest.raises(EndpointError, match="answered 503"):
        OpenAIPolicy("m", base_url=url, retries=1).act([request("qa", "x")])
    with pytest.raises(EndpointError, match="can't be reached"):
        OpenAIPolicy("m", base_url="http://127.0.0.1:9/v1", retries=0).act([request("qa", "x")])
    with pytest.raises(ValueError, match=r"expected at least 1, retries, temperature: at least 0, got 0, 256, 4, 0.0"):
        OpenAIPolicy("m", base_url=url, concurrency=0)
