"""When the probe refuses: by numbers alone, without vLLM. tests/with_vllm has the real one."""

from importlib.util import find_spec

import pytest
import torch
from engines import Policies, tiny

from trainer.engine.vllm import VLLMEngine
from trainer.engine.vllm_network import VLLMConfig
from trainer.engine.vllm_probe import TOKENS, Probe, ProbeError

RIGHT = -torch.arange(1, TOKENS + 1, dtype=torch.float64) / 10
NOISE = 1e-5 * (-1) ** torch.arange(TOKENS, dtype=torch.float64)


def probe() -> Probe:
    return Probe(97, 72, 5e-4)


def test_the_probe_is_always_the_same() -> None:
    one, other = probe(), probe()
    assert (one.prompt, one.token_ids) == (other.prompt, other.token_ids)
    assert (len(one.prompt), len(set(one.token_ids))) == (72, TOKENS)
    assert max(one.prompt + tuple(one.token_ids)) < 97


def test_what_is_near_passes() -> None:
    assert probe().check("qa", 0, RIGHT, (RIGHT + NOISE).tolist()) == pytest.approx(1e-5)


@pytest.mark.parametrize("wrong", [0.61, float("nan"), float("inf")])
def test_one_token_that_is_off(wrong: float) -> None:
    given = RIGHT.clone()
    given[3] += wrong
    match = (
        rf"policy 'qa' at version 4: expected .* an rms of 0.0005, got .*\(token {probe().token_ids[3]}: .* where -0.4000 is"
    )
    with pytest.raises(ProbeError, match=match):
        probe().check("qa", 4, RIGHT, given.tolist())


def test_small_moves_must_be_followed() -> None:
    """An update moves by 2e-4, within the tolerance and far above the error of 1e-5: staying where one was is seen."""
    moved = RIGHT + 2e-4 * torch.sign(torch.cos(torch.arange(TOKENS).double()))
    for given, follows in ((moved + NOISE, True), (RIGHT + NOISE, False), (2 * RIGHT - moved + NOISE, False)):
        one = probe()
        one.check("qa", 0, RIGHT, (RIGHT + NOISE).tolist())
        one.check("math", 0, moved, (moved + NOISE).tolist())  # another policy's business
        if follows:
            one.check("qa", 1, moved, given.tolist())
            continue
        with pytest.raises(
            ProbeError, match=r"policy 'qa' at version 1: expected .* to follow an update that moved .* 0.0002, "
        ):
            one.check("qa", 1, moved, given.tolist())


def test_moves_within_the_error_prove_nothing() -> None:
    one = probe()
    one.check("qa", 0, RIGHT, (RIGHT + NOISE).tolist())
    one.check("qa", 1, RIGHT + 1e-5, (RIGHT + NOISE).tolist())


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm() -> None:
    with pytest.raises(ImportError, match="engine: expected vLLM to be installed for engine=vllm, got none"):
        VLLMEngine(Policies(qa=tiny()))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["kv_cache_gib", "block_size", "max_model_len", "max_num_seqs", "probe_tolerance"])
def test_bad_configuration(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a finite number > 0, got 0"):
        VLLMConfig(**{name: 0})
