"""Five agents' adapters in a whole training step, decoder, head and loss: ours packed, and PEFT one agent after the other.

`python -m bench.adapters_step --dtype float32`

The model is a random Qwen3 of 0.1 B parameters with Qwen's own vocabulary. The agents' sequences share nothing, so what is
compared is the packed step alone. PEFT's passes take the loss in two ways: TRL's fused head (TRL 1.16 on CPU: in chunks of
rows), and whole logits in eager torch. The bodies alone are compared by `bench.bench_grouped_lora`.
"""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import torch

import himakernels.integrations.transformers as hf
from bench import opponents
from bench.batches import PackedBatch
from bench.compare import table
from bench.contenders import DTYPES, OPTIONS
from bench.measure import device_name, time_in_turns, version
from bench.training_step import DEVICE, ROUNDINGS, TERMS, qwen3
from himakernels import pack, vrgrpo_loss
from himakernels.integrations.peft import packed_adapters, train_adapters
from himakernels.testing import assert_gate

AGENTS = ("master", "qa", "efc", "gfc", "math")
RANKS = (8, 16, 16, 32, 64)
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OURS = "himakernels, packed"


@dataclasses.dataclass(frozen=True)
class Work:
    """Samples [A, n, L] of the agents, all tokens but the first trained, and their advantages [A, n].

    They lie on the CPU: every step moves them.
    """

    samples: torch.Tensor
    advantages: torch.Tensor
    old_logprobs: torch.Tensor  # [A, n, L - 1]

    @staticmethod
    def random(vocab: int, samples: int, length: int) -> "Work":
        g = torch.Generator().manual_seed(0)
        tokens = torch.randint(vocab, (len(AGENTS), samples, length), generator=g)
        old = -torch.log(torch.tensor(float(vocab))) + 0.1 * torch.randn(len(AGENTS), samples, length - 1, generator=g)
        return Work(tokens, torch.randn(len(AGENTS), samples, generator=g), old)


def adapted(model: torch.nn.Module, dtype: torch.dtype) -> Any:
    """A PEFT model with an adapter for each agent, of its own rank, in the base's dtype."""
    from peft import LoraConfig, get_peft_model

    configs = [LoraConfig(r=r, lora_alpha=2 * r, target_modules=TARGETS, init_lora_weights=False) for r in RANKS]
    model = get_peft_model(model, configs[0], adapter_name=AGENTS[0], autocast_adapter_dtype=False)
    for name, config in zip(AGENTS[1:], configs[1:], strict=True):
        model.add_adapter(name, config, autocast_adapter_dtype=False)
    return model.to(dtype).train()


def packed(model: Any, work: Work) -> None:
    """One forward and one backward for all agents."""
    model.set_attn_implementation(hf.ATTENTION)
    A, n, L = work.samples.shape
    train_adapters(model, AGENTS)
    owner = torch.arange(A).repeat_interleave(n)
    (tree,) = pack(
        list(work.samples.flatten(0, 1)),
        sample_id=torch.arange(A * n),
        trained=[torch.arange(L) > 0] * (A * n),
        policy_id=owner,
        agent_id=owner,
    )
    tree = tree.to(DEVICE)
    with packed_adapters(model, AGENTS, tree.segments):
        hidden = hf.hidden_states(model, tree)
    old = torch.nn.functional.pad(work.old_logprobs, (1, 0)).flatten()
    vrgrpo_loss(
        hidden,
        hf.output_head(model).weight,
        tree.labels,
        sample_id=tree.sample_id,
        advantages=work.advantages.flatten().to(DEVICE),
        agent_id=tree.agent_id,
        num_agents=A,
        old_logprobs=tree.gather(old.to(DEVICE)),
        clip_low=OPTIONS.clip_low,
        clip_high=OPTIONS.clip_high,
    ).loss.backward()


def sequential(loss: opponents.Loss) -> Callable[[Any, Work], None]:
    """PEFT as it is: each agent's adapter set, its samples forward, its loss, its backward."""

    def run(model: Any, work: Work) -> None:
        model.set_attn_implementation("sdpa")
        _, n, L = work.samples.shape
        zeros = torch.zeros(n, dtype=torch.int64, device=DEVICE)
        samples, advantages, old = (t.to(DEVICE) for t in (work.samples, work.advantages, work.old_logprobs))
        for a, name in enumerate(AGENTS):
            model.set_adapter(name)
            decoder = model.get_base_model()
            hidden = decoder.model(input_ids=samples[a], use_cache=False).last_hidden_state[:, :-1]
            batch = PackedBatch(
                hidden=hidden.flatten(0, 1),
                weight=decoder.lm_head.weight,
                labels=samples[a, :, 1:].flatten(),
                sample_id=torch.arange(n, device=DEVICE).repeat_interleave(L - 1),
                agent_id=zeros,
                group_id=zeros,
                rewards=advantages[a],
                advantages=advantages[a],
                old_logprobs=old[a].flatten(),
            )
            loss(batch, OPTIONS).backward()

    return run


CONTENDERS: dict[str, Callable[[Any, Work], None]] = {
    OURS: packed,
    "PEFT one by one, TRL's fused head": sequential(lambda batch, options: opponents.trl_loss(batch, options, chunked=True)),
    "PEFT one by one, whole logits": sequential(opponents.eager_loss),
}


def gradients(model: Any, run: Callable[[Any, Work], None], work: Work) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    run(model, work)
    return {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}


def gate(dtype: torch.dtype) -> None:
    """Every adapter's gradients on a small model, against those of PEFT with whole logits in fp64 and in `dtype`."""
    work = Work.random(96, 3, 12)
    model = adapted(qwen3(hidden=192, layers=2, vocab=96, dtype=dtype), dtype)
    found = {name: gradients(model, run, work) for name, run in CONTENDERS.items()}
    eager = found["PEFT one by one, whole logits"]
    wide = dataclasses.replace(work, advantages=work.advantages.double(), old_logprobs=work.old_logprobs.double())
    truth = gradients(model.double(), sequential(opponents.eager_loss), wide)
    scale = float(torch.cat([grad.flatten() for grad in truth.values()]).square().mean().sqrt())
    for who, grads in found.items():
        assert grads.keys() == truth.keys(), who
        for name, grad in grads.items():
            assert_gate(
                f"{who}: {name}", grad.to(dtype), truth[name], eager[name].to(dtype), dtype=dtype, n=TERMS,
                roundings=ROUNDINGS[dtype], scale=scale,
            )  # fmt: skip


def step(model: Any, work: Work, run: Callable[[Any, Work], None]) -> Callable[[], None]:
    """Forward + backward, gradients anew each time."""

    def timed() -> None:
        model.zero_grad(set_to_none=True)
        run(model, work)

    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--samples", type=int, default=4, help="of each agent")
    parser.add_argument("--length", type=int, default=64, help="tokens of a sample")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    dtype, vocab = DTYPES[args.dtype], 151_936
    gate(dtype)
    base = qwen3(hidden=512, layers=12, vocab=vocab, dtype=dtype)
    size = sum(p.numel() for p in base.parameters())
    model, work = adapted(base, dtype), Work.random(vocab, args.samples, args.length)
    print(
        f"{device_name()}, {torch.get_num_threads()} threads, torch {version('torch')}, TRL {version('trl')}, PEFT "
        f"{version('peft')}, {args.dtype}\nfive agents x {args.samples * args.length} tokens, ranks {RANKS}, a random Qwen3 of "
        f"{size / 1e6:.0f} M parameters, vocabulary {vocab:,}; forward + backward with the grpo loss",
        flush=True,
    )

    timings = time_in_turns({name: step(model, work, run) for name, run in CONTENDERS.items()}, args.rounds)
    rows = [["one training step", "s", "IQR", "x ours"]]
    for name, t in timings.items():
        rows.append([name, f"{t.median:.2f}", f"{t.iqr:.2f}", f"{t.median / timings[OURS].median:.2f}"])
    print(table(rows))


if __name__ == "__main__":
    main()
