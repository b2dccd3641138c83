"""A whole training step, forward + backward of a decoder and its loss: the shared prefix once, beside those who repeat it.

`python -m bench.training_step --dtype float32`
"""

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bench.compare import table
from bench.measure import Timing, device_name, time_in_turns
from himakernels import pack, vrgrpo_loss
from himakernels.packing import PackedTree
from himakernels.testing import assert_gate

CLIP = 0.2
# The gate of a whole network (himakernels.testing.assert_gate): its sums run over tokens and channels, layer after layer,
# and half precision rounds between any two operations.
TERMS = 2 * 192 * 120
ROUNDINGS = {torch.float32: 1, torch.bfloat16: 80}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Group:
    """One prompt [P] and its sampled actions [G, L], with what the loss needs of them: on the CPU, every step moves it."""

    prompt: torch.Tensor
    actions: torch.Tensor
    old_logprobs: torch.Tensor  # [G, L]
    advantages: torch.Tensor  # [G]

    @staticmethod
    def random(vocab: int, prompt: int, siblings: int, action: int) -> "Group":
        g = torch.Generator().manual_seed(0)
        advantages = torch.randn(siblings, generator=g)
        return Group(
            torch.randint(vocab, (prompt,), generator=g),
            torch.randint(vocab, (siblings, action), generator=g),
            -torch.log(torch.tensor(float(vocab))) + 0.1 * torch.randn(siblings, action, generator=g),
            (advantages - advantages.mean()) / advantages.std(),
        )

    @property
    def whole(self) -> torch.Tensor:
        """[G, P + L]: every sequence on its own."""
        return torch.cat([self.prompt.expand(len(self.actions), -1), self.actions], dim=1)

    def to(self, device: torch.device) -> "Group":
        return Group(*(t.to(device) for t in (self.prompt, self.actions, self.old_logprobs, self.advantages)))

    def pack(self, *, share: bool) -> PackedTree:
        """The forest of the group; without `share` every sequence is a chain of its own."""
        G, L = self.actions.shape
        trained = [torch.arange(len(self.prompt) + L) >= len(self.prompt)] * G
        alone = None if share else torch.arange(G)
        return pack(list(self.whole), sample_id=torch.arange(G), trained=trained, policy_id=alone)[0]


def grpo(logits: torch.Tensor, group: Group) -> torch.Tensor:
    """The grpo loss of logits [G, L, V] in plain torch, as the peers compute it, the group on their device."""
    log_p = torch.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))
    logprobs = log_p.gather(2, group.actions[..., None])[..., 0]
    ratio = (logprobs - group.old_logprobs).exp()
    by_sample = group.advantages[:, None]
    return -torch.minimum(ratio * by_sample, ratio.clamp(1 - CLIP, 1 + CLIP) * by_sample).mean(1).mean()


def one_at_a_time(model: torch.nn.Module, group: Group) -> torch.Tensor:
    """Every sequence in a forward of its own: what everybody must equal."""
    model.set_attn_implementation("eager")
    group = group.to(DEVICE)
    first, L = len(group.prompt) - 1, group.actions.shape[1]
    logits = [model(sequence[None], use_cache=False).logits[0, first : first + L] for sequence in group.whole]
    return grpo(torch.stack(logits), group)


def padded(model: torch.nn.Module, group: Group) -> torch.Tensor:
    """The batch [G, P + L] through torch's own attention, logits where they are needed: TRL's forward."""
    model.set_attn_implementation("sdpa")
    group = group.to(DEVICE)
    L = group.actions.shape[1]
    mask = torch.ones_like(group.whole)
    logits = model(group.whole, attention_mask=mask, logits_to_keep=L + 1, use_cache=False).logits
    return grpo(logits[:, :-1], group)


def packed(model: torch.nn.Module, group: Group, *, share: bool) -> torch.Tensor:
    """Our attention and our loss on the forest, or, without `share`, on plain packing."""
    import himakernels.integrations.transformers as hf

    model.set_attn_implementation(hf.ATTENTION)
    tree = group.pack(share=share).to(DEVICE)
    head = hf.output_head(model)
    old = torch.nn.functional.pad(group.old_logprobs, (len(group.prompt), 0)).flatten()
    return vrgrpo_loss(
        hf.hidden_states(model, tree),
        head.weight,
        tree.labels,
        sample_id=tree.sample_id,
        advantages=group.advantages.to(DEVICE),
        old_logprobs=tree.gather(old.to(DEVICE)),
        clip_low=CLIP,
    ).loss


def _prefix_grouper_attention(
    module: torch.nn.Module, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: object, scaling: float, **sent: Any
) -> tuple[torch.Tensor, None]:
    """What PrefixGrouper asks for: its forward around an attention; here torch's, as the prompt and the actions need no mask
    but the causal one (all have one length).
    """

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        L, S = q.shape[2], k.shape[2]
        causal = None if L == S else torch.ones(L, S, dtype=torch.bool, device=DEVICE).tril(S - L)
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=causal, is_causal=causal is None, scale=scaling, enable_gqa=True
        )
        return out.transpose(1, 2)

    return sent["prefix_grouper"].forward(attend, q, k, v), None


def prefix_grouper(model: torch.nn.Module, group: Group) -> torch.Tensor:
    """PrefixGrouper as its README uses it; the head runs on the rows of the actions only."""
    from prefix_grouper import PrefixGrouper
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register("prefix_grouper", _prefix_grouper_attention)
    AttentionMaskInterface.register("prefix_grouper", lambda **_: None)
    model.set_attn_implementation("prefix_grouper")
    group = group.to(DEVICE)
    P, (G, L) = len(group.prompt), group.actions.shape
    prompt, ones = group.prompt[None], torch.ones_like(group.actions)
    grouper = PrefixGrouper.from_ungrouped_masks(torch.ones_like(prompt), ones, G, device=prompt.device)
    depth = torch.cat([torch.arange(P), *[torch.arange(P, P + L)] * G]).to(DEVICE)
    hidden = model.model(
        grouper.concat_input(prompt, torch.ones_like(prompt), group.actions, ones),
        position_ids=depth[None],
        use_cache=False,
        prefix_grouper=grouper,
    ).last_hidden_state
    *_, suffix, _ = grouper.split_output(hidden, include_prefix_last=1)
    return grpo(model.lm_head(suffix[:, :-1]), group)


Contender = Callable[[torch.nn.Module, Group], torch.Tensor]
OURS = "himakernels, shared prefix"
CONTENDERS: dict[str, Contender] = {
    OURS: lambda model, group: packed(model, group, share=True),
    "himakernels, plain packing": lambda model, group: packed(model, group, share=False),
    "padded batch, torch": padded,
}
if importlib.util.find_spec("prefix_grouper") is not None:
    CONTENDERS["PrefixGrouper, torch"] = prefix_grouper


def qwen3(*, hidden: int, layers: int, vocab: int, dtype: torch.dtype) -> torch.nn.Module:
    """A Qwen3 of random weights on DEVICE: heads of 64, a key head for three query heads, tied embeddings."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    heads = hidden // 64
    config = Qwen3Config(
        hidden_size=hidden, num_hidden_layers=layers, vocab_size=vocab, intermediate_size=3 * hidden, head_dim=64,
        num_attention_heads=heads, num_key_value_heads=max(heads // 3, 1), tie_word_embeddings=True,
        max_position_embeddings=4_096,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).to(DEVICE, dtype).train()


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def gate(dtype: torch.dtype) -> None:
    """Loss and every gradient of everybody on a small model, against one sequence at a time in fp64."""
    model, group = qwen3(hidden=192, layers=2, vocab=96, dtype=dtype), Group.random(96, 24, 4, 6)
    wide = qwen3(hidden=192, layers=2, vocab=96, dtype=torch.float64)
    wide.load_state_dict(model.state_dict())
    truth, eager = (gradients(m, one_at_a_time(m, group)) for m in (wide, model))
    scale = float(torch.cat([g.flatten() for g in truth[1:]]).square().mean().sqrt())
    names = ["loss", *(name for name, _ in model.named_parameters())]
    for who, contender in CONTENDERS.items():
        found = gradients(model, contender(model, group))
        for name, ours, t, e in zip(names, found, truth, eager, strict=True):
            assert_gate(f"{who}: {name}", ours, t, e, dtype=dtype, n=TERMS, roundings=ROUNDINGS[dtype], scale=scale)


def step(model: torch.nn.Module, group: Group, contender: Contender) -> Callable[[], None]:
    """Forward + backward, gradients anew each time."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        contender(model, group).backward()

    return run


def compare(model: torch.nn.Module, group: Group, rounds: int) -> dict[str, Timing]:
    return time_in_turns({name: step(model, group, c) for name, c in CONTENDERS.items()}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--prompt", type=int, default=768)
    parser.add_argument("--siblings", type=int, default=8)
    parser.add_argument("--action", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    gate(dtype)
    model = qwen3(hidden=768, layers=12, vocab=32_000, dtype=dtype)
    group = Group.random(32_000, args.prompt, args.siblings, args.action)
    tree = group.pack(share=True)
    size = sum(p.numel() for p in model.parameters())
    saved = f"{tree.original_tokens:,} tokens -> {tree.num_tokens:,} distinct ({tree.share_saved:.1%} saved)"
    print(
        f"{device_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {args.dtype}; a random Qwen3 of "
        f"{size / 1e6:.0f} M parameters, forward + backward with the grpo loss\n{args.siblings} siblings, prompt "
        f"{args.prompt}, action {args.action}: {saved}",
        flush=True,
    )
    timings = compare(model, group, args.rounds)
    base = timings[OURS].median
    rows = [["one training step", "s", "IQR", "x ours", "tokens/s"]]
    for name, t in timings.items():
        rows.append(
            [name, f"{t.median:.2f}", f"{t.iqr:.2f}", f"{t.median / base:.2f}", f"{tree.original_tokens / t.median:,.0f}"]
        )
    print(table(rows))


if __name__ == "__main__":
    main()
