"""vLLM follows the trainer's weights, or nothing more is generated: adapters, whole networks, tied heads, cached prefixes."""

from pathlib import Path

import pytest
import torch
from vllm_cases import change, engine_of, judge, policies_of, prompts

import trainer.engine.vllm_network as vllm_network
from trainer.engine.base import SamplingParams
from trainer.engine.vllm import VLLMEngine
from trainer.engine.vllm_network import VLLMNetwork
from trainer.engine.vllm_probe import ProbeError

AGENTS = ("master", "qa", "efc", "gfc", "math")
P = SamplingParams(max_new_tokens=6)
STALE = r"policy '{}' at version 1: expected vLLM's log-probabilities of the probe to be the trainer's but for .*, got "


def same(engine: VLLMEngine, names: list[str], seed: int = 0) -> None:
    """One prompt to several policies in one call, twice: what is sampled has the trainer's log-probabilities."""
    asked = prompts(70) * len(names)
    for _ in range(2):
        samples = engine.generate(asked, 2, P, names, range(seed, seed + len(names)))
        judge(engine.policies, names, asked, samples)
        versions = engine.policies.versions
        assert [{s.policy_version for s in group} for group in samples] == [{versions[name]} for name in names]


def test_five_adapters_in_one_call() -> None:
    engine = engine_of(policies_of("qwen3", "lora", AGENTS))
    names = [*AGENTS, *reversed(AGENTS)]
    same(engine, names)
    steps = engine.stats.steps
    samples = engine.generate(prompts(70) * 5, 1, P, AGENTS, [7] * 5)
    assert engine.stats.steps - steps == P.max_new_tokens  # one batch, not one after another
    assert len({group[0].token_ids for group in samples}) == 5
    for policy in ("qa", "math"):
        change(engine.policies, policy)
        engine.update_policy(policy)
    assert engine.policies.versions == {"master": 0, "qa": 1, "efc": 0, "gfc": 0, "math": 1}
    same(engine, names)


@pytest.mark.parametrize("paradigm", ["lora", "shared"])
@pytest.mark.parametrize("family", ["qwen3-tied", "llama", "gemma3"])
def test_updates_follow(paradigm: str, family: str) -> None:
    """Three versions; what was cached of one is met in that one, and never in the next."""
    policies = policies_of(family, paradigm, ("qa", "math"))
    engine = engine_of(policies)
    asked = prompts(70)
    for version in range(3):
        for policy in policies.names:
            cached = engine.stats.cached_tokens
            engine.generate(asked, 1, P, policy)
            assert engine.stats.cached_tokens == cached  # nothing of the version before, or of another policy
            engine.generate(asked, 1, P, policy)
            assert engine.stats.cached_tokens == cached + 64
            assert policies.versions[policy] == version
        same(engine, list(policies.names))
        for policy in policies.names:
            change(policies, policy)
            engine.update_policy(policy)


def test_a_network_an_agent() -> None:
    """Two networks side by side, each in a vLLM of its own; one is updated."""
    engine = engine_of(policies_of("qwen3-tied", "full", ("qa", "math")))
    same(engine, ["qa", "math", "qa"])
    change(engine.policies, "math")
    engine.update_policy("math")
    assert engine.policies.versions == {"qa": 0, "math": 1}
    same(engine, ["qa", "math", "qa"])


def test_bf16() -> None:
    """The probe's tolerance is met, and what is sampled is near; a bf16 network stays bf16."""
    for paradigm in ("lora", "shared"):
        policies = policies_of("qwen3", paradigm, ("qa",), dtype="bfloat16")
        engine, (name,) = engine_of(policies), policies.names
        for _ in range(2):
            engine.generate(prompts(70), 2, P, name, [1])
            change(policies, name)
            engine.update_policy(name)


def test_versions_that_others_count() -> None:
    """The learner counts itself: an update is then one version, and one that nobody announced is seen at the next call."""
    policies = policies_of("qwen3", "lora", ("qa",))
    engine = engine_of(policies)
    engine.update_policy("qa")  # before vLLM has started
    assert policies.versions["qa"] == 1
    same(engine, ["qa"])
    change(policies, "qa")
    policies.versions["qa"] += 1
    engine.update_policy("qa")
    assert policies.versions["qa"] == 2
    change(policies, "qa")
    policies.versions["qa"] = 5  # as after loading a checkpoint
    same(engine, ["qa"])
    with pytest.raises(ValueError, match="policy: expected one of qa, got 'x'"):
        engine.update_policy("x")


def skipped(network: VLLMNetwork, policy: str) -> None:
    """`publish`, forgotten."""


@pytest.mark.parametrize("paradigm", ["lora", "shared"])
def test_a_skipped_update_is_refused(paradigm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = policies_of("qwen3", paradigm, ("qa",))
    engine, (name,) = engine_of(policies), policies.names
    engine.generate(prompts(70), 1, P, name)
    change(policies, name)
    with monkeypatch.context() as patch:
        patch.setattr(VLLMNetwork, "publish", skipped)
        with pytest.raises(ProbeError, match=STALE.format(name)):
            engine.update_policy(name)
        with pytest.raises(ProbeError, match=STALE.format(name)):  # and stays refused
            engine.generate(prompts(70), 1, P, name)
    same(engine, [name])  # until it arrives


def test_a_small_update_that_is_skipped_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far below the tolerance, yet seen: vLLM's numbers do not move."""
    policies = policies_of("qwen3", "lora", ("qa",))
    engine = engine_of(policies)
    engine.generate(prompts(70), 1, P, "qa")
    change(policies, "qa", 1e-5)
    engine.update_policy("qa")  # followed
    change(policies, "qa", 1e-5)
    monkeypatch.setattr(VLLMNetwork, "publish", skipped)
    with pytest.raises(ProbeError, match=r"policy 'qa' at version 2: .* to follow an update that moved .* an rms of 0.000\d+,"):
        engine.update_policy("qa")


def republished(network: VLLMNetwork, policy: str) -> None:
    """`publish` under an adapter's old name."""
    network.base.save(policy, Path(network._loras[policy].lora_path))
    network.llm.llm_engine.add_lora(network._loras[policy])


@pytest.mark.parametrize("forgotten", ["head", "cache", "name"])
def test_each_cure_is_needed(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without renewing a tied head, without emptying the cache, under an adapter's old name: the probe refuses each."""
    policies = policies_of("qwen3-tied", "lora" if forgotten == "name" else "shared", ("qa",))
    engine, (name,) = engine_of(policies), policies.names
    engine.generate(prompts(70), 1, P, name)
    change(policies, name)
    if forgotten == "head":
        monkeypatch.setattr(vllm_network, "_renew_head", lambda model: None)
    elif forgotten == "cache":
        monkeypatch.setattr(VLLMNetwork, "reset", lambda network: None)
    else:
        monkeypatch.setattr(VLLMNetwork, "publish", republished)
    with pytest.raises(ProbeError, match=STALE.format(name)):
        engine.update_policy(name)


def test_a_cache_that_is_not_emptied_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(policies_of("qwen3", "shared", ("qa",)))
    engine.generate(prompts(70), 1, P, "shared")
    monkeypatch.setattr(type(next(iter(engine._networks.values())).llm), "reset_prefix_cache", lambda llm: False)
    for call in (engine.reset, lambda: engine.update_policy("shared")):
        with pytest.raises(RuntimeError, match="vLLM: expected an empty prefix cache after reset_prefix_cache"):
            call()


def test_weights_that_are_not_numbers() -> None:
    policies = policies_of("qwen3", "lora", ("qa",))
    engine = engine_of(policies)
    engine.generate(prompts(70), 1, P, "qa")
    with torch.no_grad():
        policies.parameters("qa")[0].fill_(torch.nan)
    with pytest.raises(ProbeError, match=r"policy 'qa' at version 1: expected .*, got nan"):
        engine.update_policy("qa")
