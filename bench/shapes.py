"""The sizes that benches run at, and the GPU times that we aim for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """R loss rows in S samples, hidden size H, vocabulary V."""

    name: str
    rows: int
    hidden: int
    vocab: int
    samples: int

    @property
    def gemm_flop(self) -> float:
        """The floating-point operations of one of the three matrix products."""
        return 2.0 * self.rows * self.hidden * self.vocab


# 896 and 151,936 are the head of Qwen2.5-0.5B.
SHAPES = (
    Shape("small", 1_024, 256, 32_000, 32),
    Shape("qwen-512", 512, 896, 151_936, 16),
    Shape("qwen-4096", 4_096, 896, 151_936, 64),
)
# Seconds for a whole suite: what --benchmark-disable runs.
SMOKE = Shape("smoke", 48, 64, 500, 8)


@dataclass(frozen=True)
class Limit:
    """What one call may cost on the device it names: the stated limit that a bench prints the fraction of."""

    device: str
    shape: Shape
    form: str  # "linear": hidden -> loss + dhidden + dweight; "frozen": no dweight; "logits": logits -> loss + dlogits
    milliseconds: float
    extra_gib: float | None = None  # peak memory beside inputs and gradients
    dtype: str = "bfloat16"


_H200_8K = Shape("h200-8k", 8_192, 4_096, 131_072, 64)
_H200_16K = Shape("h200-16k", 16_384, 4_096, 131_072, 128)
_H200_LOGITS = Shape("h200-logits", 8_192, 896, 151_936, 64)

GPU_LIMITS = (
    Limit("H200", _H200_8K, "linear", 40.0, 2.6),
    Limit("H200", _H200_16K, "linear", 80.0, 2.6),
    Limit("H200", _H200_8K, "frozen", 28.0),
    Limit("H200", _H200_16K, "frozen", 55.0),
    Limit("H200", _H200_LOGITS, "logits", 1.45),
)


# Of the rate of a bare product, by direction: what attention shall reach on long chains at head dimension 128.
ATTENTION_TARGETS = {"forward": 0.60, "backward": 0.35}


def limits_for(shape: Shape, form: str, dtype: str) -> list[Limit]:
    """The limits that are stated for this shape, form and dtype."""
    return [limit for limit in GPU_LIMITS if (limit.shape, limit.form, limit.dtype) == (shape, form, dtype)]


BY_NAME = {shape.name: shape for shape in (*SHAPES, SMOKE, *(limit.shape for limit in GPU_LIMITS))}
