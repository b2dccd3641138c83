"""Results of other weights are never reused, whatever the weights' version says: loads, shared networks, adapters."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policies import AGENTS, policies

import trainer.engine.vllm as vllm
from trainer.checksums import SUMS
from trainer.engine import SamplingParams
from trainer.engine.local import LocalConfig, LocalEngine
from trainer.engine.vllm_network import Answer, Wanted
from trainer.engine.vllm_probe import Probe
from trainer.models import Policies
from trainer.network import Base

GREEDY = SamplingParams(max_new_tokens=8, temperature=0.0)
PROMPT = [(7 * i) % 250 + 2 for i in range(40)]
Said = list[tuple[int, ...]]


def say(engine: LocalEngine) -> Said:
    """Every policy's answer to one prompt."""
    names = list(engine.policies.names)
    return [sample.token_ids for (sample,) in engine.generate([PROMPT] * len(names), 1, GREEDY, names, range(len(names)))]


@torch.no_grad()
def change(made: Policies, policy: str, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters(policy):
        parameter.add_(0.3 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    made.base_of(policy).publish()


def saved(made: Policies, folder: Path, names: str = "ab") -> list[Path]:
    """Different weights of one version, one after the other."""
    folders = []
    for seed, name in enumerate(names):
        made.save(folder / name)
        folders.append(folder / name)
        for policy in made.names:
            change(made, policy, seed)
            made.renew_weights_id(policy)
    return folders


@pytest.mark.parametrize("lean", [None, False], ids=["lean", "transformers"])
@pytest.mark.parametrize(("paradigm", "dtype"), [("lora", "float32"), ("full", "float32"), ("shared", "bfloat16")])
def test_weights_of_an_equal_version(paradigm: str, dtype: Any, lean: bool | None, tmp_path: Path) -> None:
    """Loaded to and fro, also behind an engine that has used them before, and while samples run."""
    made = policies(paradigm, agents=("qa", "math"), dtype=dtype)
    a, b = saved(made, tmp_path)
    config = LocalConfig(lean=lean)

    def loaded(folder: Path) -> Said:
        made.load(folder)
        return say(LocalEngine(made, config))

    first, second = loaded(a), loaded(b)
    assert first != second
    made.load(a)
    engine = LocalEngine(made, config)
    assert say(engine) == first
    for folder, wanted in ((b, second), (a, first), (a, first), (b, second)):
        made.load(folder)
        assert say(engine) == wanted
    name = made.names[-1]
    number = engine.submit(PROMPT, params=GREEDY, policy=name, seed=0)
    for _ in range(3):
        engine.step()
    made.load(a)
    ended = [one for _ in range(20) for one in engine.step()]
    assert [(one.request, one.samples[0].token_ids) for one in ended] == [(number, first[-1])]
    assert made.versions == dict.fromkeys(made.names, 0)


def test_an_older_version_is_cached_as_well(tmp_path: Path) -> None:
    """A checkpoint from before: its version is lower than what the engine has seen."""
    made = policies(agents=("qa",))
    made.save(tmp_path)
    engine = LocalEngine(made)
    first = say(engine)
    change(made, "qa")
    engine.update_policy("qa")
    assert say(engine) != first
    made.load(tmp_path)
    assert made.versions == {"qa": 0}
    before = engine.stats.cached_tokens
    assert say(engine) == say(engine) == first
    assert engine.stats.cached_tokens == before + len(PROMPT) - 1


def test_one_adapter_is_replaced(tmp_path: Path) -> None:
    """By its network, from anybody's PEFT folder: what the others have computed stays."""
    made = policies()
    folder, _ = saved(made, tmp_path)
    engine = LocalEngine(made)
    before = say(engine)
    made.base_of("efc").load("efc", folder / "efc")
    cached = engine.stats.cached_tokens
    after = say(engine)
    assert [a == b for a, b in zip(before, after, strict=True)] == [name != "efc" for name in AGENTS]
    assert engine.stats.cached_tokens == cached + 3 * (len(PROMPT) - 1)
    assert after == say(LocalEngine(made))


def test_a_load_that_fails_half_way(tmp_path: Path) -> None:
    """The first policy's weights are there already, and count. With checksums the folder would be refused before."""
    made = policies()
    folder, _ = saved(made, tmp_path)
    engine = LocalEngine(made)
    before = say(engine)
    (folder / AGENTS[-1] / "adapter_model.safetensors").unlink()
    (folder / SUMS).unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a PEFT folder with adapter_model\.safetensors"):
        made.load(folder)
    after = say(engine)
    assert after == say(LocalEngine(made))
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, False, True]


def test_two_policies_behind_one_engine(tmp_path: Path) -> None:
    """Two objects over the same networks, where one loads; and another object in the place of the first."""
    made = policies(agents=("qa", "math"))
    a, _ = saved(made, tmp_path)
    engine = LocalEngine(made)
    before = say(engine)
    Policies(made.config, made.agents, made.tokenizer, made.bases).load(a)
    assert before != say(engine) == say(LocalEngine(made))
    other = policies(agents=("qa", "math"), seed=5)
    wanted = say(LocalEngine(other))
    assert other.versions == made.versions
    engine.policies = other
    assert say(engine) == wanted
    other.versions = dict(other.versions)  # another dictionary, whose numbers count as well
    change(other, "qa")
    other.versions["qa"] = 4
    assert wanted != say(engine) == say(LocalEngine(other))
    assert engine.generate([PROMPT], 1, GREEDY, "qa", [0])[0][0].policy_version == 4


def test_two_updates_before_a_sample_ends() -> None:
    """The first was counted by whoever made it, the second was not; versions alone would not tell them apart."""
    made = policies(agents=("qa",))
    engine = LocalEngine(made)
    number = engine.submit(PROMPT, params=GREEDY, policy="qa", seed=0)
    engine.step()
    change(made, "qa", 1)
    made.versions["qa"] += 1
    for _ in range(2):
        engine.step()
    change(made, "qa", 2)
    engine.update_policy("qa")
    ended = [one for _ in range(20) for one in engine.step()]
    assert [(one.request, [sample.token_ids for sample in one.samples]) for one in ended] == [(number, say(LocalEngine(made)))]


class Published:
    """In the place of a VLLMNetwork: vLLM's weights are those that were published last."""

    def __init__(self, base: Base, config: Any, folder: Path) -> None:
        self.base, self.steps, self.has = base, 0, {name: base.weights_ids[name] for name in base.policies}

    def publish(self, policy: str) -> None:
        self.has[policy] = self.base.weights_ids[policy]

    def generate(self, asked: list[Wanted], params: SamplingParams) -> list[Answer]:
        for one in asked:
            assert self.has[one.policy] == self.base.weights_ids[one.policy], "old weights"
        return [Answer((1,), (-1.0,), 0) for _ in asked]

    def logprobs(self, policy: str, prompt: tuple[int, ...], token_ids: list[int]) -> list[float]:
        return [0.0] * len(token_ids)


def test_vllm_gets_weights_of_an_equal_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "check_vllm", lambda: None)
    monkeypatch.setattr(vllm, "VLLMNetwork", Published)
    monkeypatch.setattr(Probe, "check", lambda *_: 0.0)
    made = policies(agents=("qa", "math"))
    a, b = saved(made, tmp_path)
    engine = vllm.VLLMEngine(made)
    for folder in (a, b, b, a):
        made.load(folder)
        engine.generate([PROMPT] * 2, 1, GREEDY, ["qa", "math"])
    made.base_of("qa").load("qa", b / "qa")
    engine.generate([PROMPT] * 2, 1, GREEDY, ["qa", "math"])
    assert made.versions == {"qa": 0, "math": 0}
    engine.policies = policies(agents=("qa", "math"), seed=5)
    engine.generate([PROMPT] * 2, 1, GREEDY, ["qa", "math"])
