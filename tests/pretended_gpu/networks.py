"""Decoders, adapters, and the trainer's learner and engine on the pretended GPU."""

from typing import Any

import numpy as np
import torch
from device import DEVICE, ghost, move
from ops import ids

import himakernels as hk
import himakernels.integrations.transformers as hf
from himakernels.integrations import transformers_paged
from himakernels.integrations.peft import _Step, packed_adapters, train_adapters
from trainer.engine import SamplingParams
from trainer.engine.local import LocalConfig, LocalEngine
from trainer.learner import Learner, LearnerConfig
from trainer.models import Policies

PREPARED: dict[str, Any] = {}  # made on the CPU, before


def step_loss(model: torch.nn.Module, tree: hk.PackedTree, hidden: torch.Tensor, samples: int, **agents: Any) -> torch.Tensor:
    old = tree.gather(torch.randn(tree.original_tokens, device=DEVICE))
    return hk.vrgrpo_loss(
        hidden, hf.output_head(model).weight, tree.labels, sample_id=tree.sample_id, old_logprobs=old,
        advantages=torch.randn(samples, device=DEVICE), **agents,
    ).loss  # fmt: skip


def decoder(family: str) -> None:
    real, forest = PREPARED[family]
    model, tree = move(real), forest.to(DEVICE, non_blocking=True)
    step_loss(model, tree, hf.hidden_states(model, tree), 4).backward()


def five_adapters() -> None:
    real, forest = PREPARED["five adapters"]
    model, tree = move(real), forest.to(DEVICE, non_blocking=True)
    names = list(model.peft_config)
    train_adapters(model, names)
    with packed_adapters(model, names, tree.segments):
        hidden = hf.hidden_states(model, tree)
    step_loss(model, tree, hidden, 15, agent_id=ids(5, 15), num_agents=5).backward()
    assert all(p.grad.device == torch.device(DEVICE) for n, p in model.named_parameters() if "lora_" in n)


def decoding() -> None:
    model = move(PREPARED["decoding"]).eval()
    with torch.no_grad():
        pool = transformers_paged.kv_pool(model, num_blocks=8, block_size=4)
        step = transformers_paged.PagedStep.of(pool, np.array([[0, 1], [2, 3]], np.int32), [0, 4], [3, 1])
        assert transformers_paged.logits(model, step, ids(9, 4)).device == torch.device(DEVICE)


def to_device(policies: Policies) -> Policies:
    """With what its networks call trained, which `move` has replaced."""
    for base in policies.bases:
        move(base.model)
        if base._frozen is not None:
            move(base._frozen)
        if base.adapters:
            base._trained |= train_adapters(base.model, base.policies)
            continue
        (trained,), (masters,) = base._trained.values(), base._masters.values()
        trained[:] = base.network.parameters()
        if masters is not trained:
            masters[:] = [torch.nn.Parameter(ghost(master)) for master in masters]
    return policies


def back() -> None:
    """Whoever asks for a copy to the CPU reads it next: it is waited for, whatever else was asked."""
    tree = PREPARED["llama"][1].to(DEVICE, non_blocking=True)
    tree.to("cpu", non_blocking=True)
    _Step(torch.nn.Module(), {}, [None], ids(9, 2, torch.int32))._segments_on(torch.device("cpu"))


def learner(name: str, step: str, config: dict[str, Any]) -> None:
    """A step of the trainer: several micro-batches, clipping and AdamW."""
    policies, batch = PREPARED[name]
    made = Learner(to_device(policies), LearnerConfig(learning_rate=1e-3, token_budget=30, max_grad_norm=0.1, **config))
    assert getattr(made, step)(batch).micro_batches > 1


def engine(name: str, lean: bool, params: list[SamplingParams]) -> None:
    """Two prompts with a common beginning, the first once more from the cache; each step ends with its tokens."""
    policies, batch = PREPARED[name]
    made = LocalEngine(to_device(policies), LocalConfig(lean=lean, token_budget=4096))
    for prompts in (batch, batch[:1]):
        (first, *_), *_ = made.generate(prompts, 2, params[: len(prompts)], "qa")
        assert len(first.token_ids) == 2
