"""Policies that ask a model: one of transformers, one behind an endpoint; both made in the test."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trainer.dialogue import CHATML
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


def test_settings_out_of_range_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="temperature: expected at least 0, got -1"):
        TransformersPolicy(str(folder), temperature=-1)
    with pytest.raises(ValueError, match="expected at least 1, got 0, 16"):
        TransformersPolicy(str(folder), max_new_tokens=0)
    with pytest.raises(OSError, match="no-such-model"):
        TransformersPolicy("./no-such-model")


class Endpoint(BaseHTTPRequestHandler):
    """Says how many messages it got; the first request of all fails, a model named "locked" always does."""

    failures = 1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 403 if body["model"] == "locked" else 503 if Endpoint.failures > 0 else 200
        Endpoint.failures -= status == 503
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": str(len(body["messages"]))}}
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8},
        }
        data = json.dumps(reply if status == 200 else {"error": {"message": "not now"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_an_endpoint_is_asked_in_order_and_again_after_a_failure(url: str) -> None:
    Endpoint.failures = 1
    policy = OpenAIPolicy("m", base_url=url, concurrency=2)
    asked = [request("qa", *["x"] * n) for n in (1, 3, 5)]
    assert policy.act(asked) == ["2", "4", "6"]
    assert policy.written == [7, 7, 7]


def test_an_endpoint_that_refuses_is_named(url: str) -> None:
    with pytest.raises(EndpointError, match=r"127.0.0.1.*answered 403.*not now"):
        OpenAIPolicy("locked", base_url=url).act([request("qa", "x")])
    with pytest.raises(EndpointError, match="can't be reached"):
        OpenAIPolicy("m", base_url="http://127.0.0.1:9/v1", retries=0).act([request("qa", "x")])
