"""One whole step of HiMA-R1, rollout and update, beside the plain way of doing it, and with each idea switched off in turn.

    python -m bench.whole_step                # every way, each in a process of its own, and a table
    python -m bench.whole_step --way plain    # one way: a line of JSON

Five agents, a LoRA adapter each, on one frozen random Qwen3 in fp32. The rollout is `bench.rollout`'s, with as many nodes as
agents: trajectories, G siblings at every node, a continuation of each. The update trains all siblings of all nodes (lengths are
fixed, advantages random, one iteration), so that every way samples and trains the same number of tokens. The ways:

- `ours`: `LocalEngine`, then `Learner.step`.
- `no prefix cache`: the same engine, but every request begins with another token, and siblings are asked for one by one.
- `generate`: transformers' own `generate` in padded batches of 64 rows.
- `no shared prefixes`: every sequence of the update begins with another token, so that the forest is chains.
- `agent by agent`: a step of `Learner` for each agent on its own.
- `logits`: whole logits [R, V] of the trained rows, then our loss.
- `plain`: `generate`; then PEFT's adapters set one after the other, for each group a batch [G, L] and the logits of all of it,
  the clipped loss in eager torch, AdamW. The rows of a group have one length here, so that padding costs the update nothing.

Memory is resident: of the whole process at its peak (torch and transformers are in it), and what the step adds to the model.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from bench.compare import table
from bench.measure import MIB, device_name, resident_now, resident_peak, run_json
from bench.plain_engine import PlainEngine
from bench.rollout import SIZES, Workload, policies_of
from himakernels import vrgrpo_loss_from_logits
from trainer.engine.base import Engine
from trainer.engine.local import LocalEngine
from trainer.learner import Learner, LearnerConfig, TrainSequence
from trainer.models import Policies

WAYS = ("ours", "no prefix cache", "generate", "no shared prefixes", "agent by agent", "logits", "plain")
CONFIG = LearnerConfig(learning_rate=1e-4, weight_decay=0.0, max_grad_norm=1e9, token_budget=1024)
CLIP = 0.2
VOCABULARY = 4000  # ids that every size has
Update = Callable[[Policies, Sequence[TrainSequence]], dict[str, float]]  # gives the gradients' norms


class Strangers(LocalEngine):
    """An engine for which no two sequences begin alike, and siblings are no siblings."""

    def generate(self, prompts: Any, n: Any, params: Any, policy: Any, *_: Any, **__: Any) -> list[list[Any]]:
        """See `Engine.generate`; for one n, without seeds."""
        names = [policy] * len(prompts) if isinstance(policy, str) else list(policy)
        first = range(self.stats.requests, self.stats.requests + n * len(prompts))
        alone = [prompt for prompt in prompts for _ in range(n)]
        strange = [[number % VOCABULARY, *prompt[1:]] for number, prompt in zip(first, alone, strict=True)]
        samples = super().generate(strange, 1, params, [name for name in names for _ in range(n)])
        return [[sample for (sample,) in samples[i : i + n]] for i in range(0, len(samples), n)]


def sequences_of(workload: Workload) -> list[TrainSequence]:
    """All siblings of all nodes."""
    generator = torch.Generator().manual_seed(1)
    return [
        TrainSequence(policy, policy, (*prompt, *sample.token_ids), len(prompt), float(advantage), group=number)
        for number, (prompt, policy, group) in enumerate(workload.groups)
        for sample, advantage in zip(group, torch.randn(len(group), generator=generator), strict=True)
    ]


def packed(policies: Policies, sequences: Sequence[TrainSequence]) -> dict[str, float]:
    """One step of all agents."""
    return Learner(policies, CONFIG).step(sequences).grad_norms


def chains(policies: Policies, sequences: Sequence[TrainSequence]) -> dict[str, float]:
    """The same, with nothing to share."""
    strangers = [
        TrainSequence(s.policy, s.agent, (number % VOCABULARY, *s.token_ids[1:]), s.trained, s.advantage)
        for number, s in enumerate(sequences)
    ]
    return packed(policies, strangers)


def by_agent(policies: Policies, sequences: Sequence[TrainSequence]) -> dict[str, float]:
    """A step for each agent."""
    learner, norms = Learner(policies, CONFIG), dict[str, float]()
    for name in policies.names:
        norms |= learner.step([sequence for sequence in sequences if sequence.policy == name]).grad_norms
    return norms


def with_logits(policies: Policies, sequences: Sequence[TrainSequence]) -> dict[str, float]:
    """Hidden states to logits by torch."""

    def loss(hidden: torch.Tensor, *, weight: torch.Tensor, bias: Any, softcap: Any, **given: Any) -> Any:
        assert bias is None
        assert softcap is None
        return vrgrpo_loss_from_logits(hidden @ weight.T, **given)

    with patch("trainer.learner.vrgrpo_loss", loss):
        return packed(policies, sequences)


def plain(policies: Policies, sequences: Sequence[TrainSequence]) -> dict[str, float]:
    """PEFT's way, a group at a time."""
    model: Any = policies.bases[0].model
    policies.bases[0].network.set_attn_implementation("sdpa")
    model.train()
    norms = {}
    for name in policies.names:
        model.set_adapter(name)
        mine = [sequence for sequence in sequences if sequence.policy == name]
        for _, group in itertools.groupby(mine, key=lambda sequence: sequence.group):
            rows = list(group)
            ids = torch.tensor([row.token_ids for row in rows])
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, :-1]
            logprobs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
            mask = torch.from_numpy(rows[0].mask())[None, 1:]
            ratio = (logprobs - logprobs.detach()).exp()
            advantages = torch.tensor([row.advantage for row in rows])[:, None]
            loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)
            ((loss * mask).sum() / mask.sum() / len(mine)).backward()
            del logits, logprobs, ratio, loss
        parameters = policies.parameters(name)
        norms[name] = float(torch.nn.utils.clip_grad_norm_(parameters, CONFIG.max_grad_norm))
        torch.optim.AdamW(parameters, lr=CONFIG.learning_rate, weight_decay=0.0).step()
        model.zero_grad(set_to_none=True)
    return norms


UPDATES: dict[str, Update] = {
    "no shared prefixes": chains,
    "agent by agent": by_agent,
    "logits": with_logits,
    "plain": plain,
}


def engine_of(way: str, policies: Policies) -> Engine:
    """What a way samples with."""
    if way in ("generate", "plain"):
        return PlainEngine(policies)
    return Strangers(policies) if way == "no prefix cache" else LocalEngine(policies)


def gate() -> None:
    """The ways to update give the same gradients on a small model: norms within 1e-4, agent by agent."""
    args = argparse.Namespace(queries=2, nodes=5, siblings=4, action=4, observation=4)
    found = {}
    for way in ("ours", "agent by agent", "logits", "plain"):
        policies = policies_of("4m", 5)
        workload = Workload(args, policies, 1)
        workload.play(LocalEngine(policies))
        found[way] = UPDATES.get(way, packed)(policies, sequences_of(workload))
        for name, norm in found[way].items():
            truth = found["ours"][name]
            assert abs(norm - truth) <= 1e-4 * truth, f"{way}, {name}: expected a gradient of norm {truth}, got {norm}"


def measure(way: str, args: argparse.Namespace) -> dict[str, Any]:
    """One step."""
    policies = policies_of(args.size, 5)
    engine, workload = engine_of(way, policies), Workload(args, policies, 1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, begin = resident_now(), time.perf_counter()
    workload.play(engine)
    sampled, middle = resident_peak(), time.perf_counter()
    sequences = sequences_of(workload)
    UPDATES.get(way, packed)(policies, sequences)
    end, peak = time.perf_counter(), resident_peak()
    return {
        "way": way,
        "rollout_seconds": round(middle - begin, 2),
        "update_seconds": round(end - middle, 2),
        "seconds": round(end - begin, 2),
        "peak_mib": peak // MIB,
        "above_mib": (peak - before) // MIB,
        "rollout_peak_mib": sampled // MIB,
        "trained_sequences": len(sequences),
        "trained_tokens": sum(len(s.token_ids) for s in sequences),
        "parameters": sum(p.numel() for p in policies.bases[0].network.parameters()),
        "threads": torch.get_num_threads(),
        "device": device_name(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--size", choices=tuple(SIZES), default="90m")
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--siblings", type=int, default=8)
    parser.add_argument("--action", type=int, default=16, help="tokens of every sample")
    parser.add_argument("--observation", type=int, default=16)
    args = parser.parse_args()
    if args.way is not None:
        print(json.dumps(measure(args.way, args)))
        return
    gate()
    sizes = [f"--{name}={value}" for name, value in vars(args).items() if name != "way"]
    found = []
    for way in WAYS:
        found.append(run_json("bench.whole_step", f"--way={way}", *sizes))
        print(json.dumps(found[-1]), flush=True)
    ours = found[0]
    print(
        f"\n{ours['device']}, {ours['threads']} threads, torch {ours['torch']}, fp32; a random Qwen3 of "
        f"{ours['parameters'] / 1e6:.1f} M parameters with five adapters\n{args.queries} queries, {args.nodes} nodes, "
        f"{args.siblings} siblings and a continuation each; {ours['trained_sequences']} sequences of "
        f"{ours['trained_tokens']:,} tokens are trained"
    )
    rows = [["one whole step", "rollout s", "update s", "s", "x ours", "peak MiB", "x ours", "added MiB", "x ours"]]
    for got in found:
        times = [f"{got[name]:.1f}" for name in ("rollout_seconds", "update_seconds", "seconds")]
        sizes = [f"{got['peak_mib']:,}", f"{got['peak_mib'] / ours['peak_mib']:.2f}"]
        sizes += [f"{got['above_mib']:,}", f"{got['above_mib'] / ours['above_mib']:.2f}"]
        rows.append([str(got["way"]), *times, f"{got['seconds'] / ours['seconds']:.2f}", *sizes])
    print(table(rows))


if __name__ == "__main__":
    main()
