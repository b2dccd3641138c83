"""Whether vLLM has the weights that the trainer has: log-probabilities after one fixed prompt, from both.

Stale keys, a head that a reload forgot or an adapter that was served twice show here, before a token is sampled.
"""

from collections.abc import Sequence

import torch

from trainer.network import Base

TOLERANCE = {torch.float32: 5e-4, torch.bfloat16: 0.25}
TOKENS = 64
MOVED = 4  # times the error of the last probe: from there on vLLM must be seen to follow an update


class ProbeError(RuntimeError):
    """vLLM's log-probabilities are not those of the trainer's weights."""


class Probe:
    """One prompt, always the same, so that blocks of older weights would be met, and tokens to be scored after it.

    Args:
        vocab_size, length: of the prompt; longer than a block of the cache.
        tolerance: the rms of what is allowed.
    """

    def __init__(self, vocab_size: int, length: int, tolerance: float) -> None:
        generator = torch.Generator().manual_seed(0)
        self.prompt = tuple(torch.randint(vocab_size, (length,), generator=generator).tolist())
        self.token_ids: list[int] = torch.randperm(vocab_size, generator=generator)[:TOKENS].tolist()
        self.tolerance = tolerance
        self._last: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}  # of a policy: the trainer's, vLLM's

    @torch.no_grad()
    def trainers(self, base: Base, policy: str) -> torch.Tensor:
        """The trainer's own, by a plain forward; fp64."""
        with base.generating(policy) as model:
            logits = model(input_ids=torch.tensor([self.prompt], device=model.device), use_cache=False).logits[0, -1]
        scores: torch.Tensor = logits.double().log_softmax(-1)[self.token_ids]
        return scores.cpu()

    def check(self, policy: str, version: int, trainers: torch.Tensor, given: Sequence[float]) -> float:
        """Returns the rms of the difference.

        Raises: ProbeError if it is above the tolerance, or if the trainer's have moved since the last check, by more than the
        error there was, and vLLM's have not moved along.
        """
        vllms = torch.tensor(given, dtype=torch.float64)
        error = _rms(vllms - trainers)
        whose = f"policy {policy!r} at version {version}: expected vLLM's log-probabilities of the probe"
        if not error <= self.tolerance:  # NaN too
            worst = int((vllms - trainers).abs().nan_to_num(torch.inf).argmax())
            raise ProbeError(
                f"{whose} to be the trainer's but for an rms of {self.tolerance:g}, got {error:.3g} (token "
                f"{self.token_ids[worst]}: {vllms[worst]:.4f} where {trainers[worst]:.4f} is right)"
            )
        if policy in self._last:
            before, vllms_before = self._last[policy]
            moved, followed = _rms(trainers - before), _rms((vllms - vllms_before) - (trainers - before))
            if moved > MOVED * _rms(vllms_before - before) and followed > 0.5 * moved:
                raise ProbeError(
                    f"{whose} to follow an update that moved the trainer's by an rms of {moved:.3g}, got a move that differs "
                    f"from it by {followed:.3g}"
                )
        self._last[policy] = trainers, vllms
        return error


def _rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())
