"""A rollout in VR-GRPO's shape through each engine, by the same calls of `Engine.generate`: tokens a second, hit rate, gap.

    .venv-vllm/bin/python -m bench.rollout --engine vllm --size 90m
    .venv/bin/python -m bench.rollout --engine local --size 90m
    .venv/bin/python -m bench.rollout --engine layers --size 90m      # the local one through transformers' layers
    .venv/bin/python -m bench.rollout --engine generate --size 90m    # transformers' own, padded batches

Queries in flight share a system prompt of 400 tokens (each agent its own, with `--adapters`); behind it stand 100 tokens of
memory and query. First the trajectories, node by node; then G siblings of all nodes in one call; then a continuation of each
sibling after an observation. Lengths are fixed, so all engines do the same work. Before that is timed, sampled
log-probabilities are held against the learner's, of all policies, through its packed trees: `gap`. `outside` is the share of a
local engine's time that is not spent in the model's forward. Last come `cold` and `cached`: seconds until 8 prompts of 1,000
tokens have their first token, where nothing of them and where 900 tokens of each are known. Models are random Qwen3 with tied
embeddings, fp32.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from bench.measure import device_name
from bench.plain_engine import PlainEngine
from trainer.engine.base import Engine, SamplingParams
from trainer.engine.local import LocalConfig, LocalEngine
from trainer.learner import Learner, LearnerConfig, TrainSequence
from trainer.models import ModelConfig, Policies
from trainer.types import Sample

SYSTEM, QUERY = 400, 100
SIZES: dict[str, dict[str, int]] = {
    "4m": {"vocab_size": 4000, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 8,
           "num_key_value_heads": 4, "head_dim": 32},
    "90m": {"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 10,
            "num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64},
}  # fmt: skip


def policies_of(size: str, adapters: int) -> Policies:
    """One policy that is the whole network, or so many adapters on it."""
    torch.manual_seed(0)
    config = Qwen3Config(**SIZES[size], max_position_embeddings=2048, tie_word_embeddings=True)
    model = Qwen3ForCausalLM(config)
    made = ModelConfig(paradigm="lora" if adapters else "shared", device="cpu")
    agents = [f"agent{i}" for i in range(max(adapters, 1))]
    policies = Policies.create(made, agents, tokenizer=(), models={"tiny": model})  # texts never come up
    if adapters:
        with torch.no_grad():
            for policy in policies.names:
                for parameter in policies.parameters(policy):
                    parameter.normal_(std=0.02)
    return policies


def engine_of(name: str, policies: Policies) -> Engine:
    """The engine, with all siblings in flight at once."""
    if name in ("local", "layers"):
        return LocalEngine(policies, LocalConfig(lean=None if name == "local" else False))
    if name == "generate":
        return PlainEngine(policies)
    from trainer.engine.vllm import VLLMEngine
    from trainer.engine.vllm_network import VLLMConfig

    return VLLMEngine(policies, VLLMConfig(kv_cache_gib=2.0))


class Workload:
    """The prompts, and what was sampled so far. policies: node t is played by number t, counted round."""

    def __init__(self, args: argparse.Namespace, policies: Policies, seed: int) -> None:
        self.generator, self.vocab = torch.Generator().manual_seed(seed), policies.bases[0].vocab_size
        self.args, self.names, self.seed = args, policies.names, seed
        self.systems = [self.draw(SYSTEM) for _ in policies.names]
        self.queries = [self.draw(QUERY) for _ in range(args.queries)]
        self.groups: list[tuple[list[int], str, list[Sample]]] = []  # each node's prompt, policy and siblings

    def draw(self, count: int) -> list[int]:
        """Random tokens."""
        return torch.randint(self.vocab, (count,), generator=self.generator).tolist()

    def play(self, engine: Engine) -> None:
        """Trajectories, siblings, continuations: queries x T x (1 + 2 G) samples."""
        args, params = self.args, SamplingParams(max_new_tokens=self.args.action)
        history: list[list[int]] = [[] for _ in self.queries]
        nodes: list[tuple[list[int], str]] = []
        for node in range(args.nodes):
            who = node % len(self.names)
            asked = [self.systems[who] + query + told for query, told in zip(self.queries, history, strict=True)]
            nodes += [(prompt, self.names[who]) for prompt in asked]
            for told, (sample,) in zip(
                history, engine.generate(asked, 1, params, self.names[who], self.seeds(asked)), strict=True
            ):
                told += [*sample.token_ids, *self.draw(args.observation)]
        prompts, policies = [prompt for prompt, _ in nodes], [policy for _, policy in nodes]
        groups = engine.generate(prompts, args.siblings, params, policies, self.seeds(prompts))
        self.groups = list(zip(prompts, policies, groups, strict=True))
        longer = [
            ([*prompt, *sample.token_ids, *self.draw(args.observation)], policy)
            for prompt, policy, group in self.groups
            for sample in group
        ]
        engine.generate([prompt for prompt, _ in longer], 1, params, [policy for _, policy in longer], self.seeds(longer))

    def seeds(self, asked: Sequence[object]) -> list[int]:
        """One for each request."""
        return [1000 * self.seed + i for i in range(len(asked))]


def gap(engine: Engine, policies: Policies, workload: Workload) -> float:
    """The largest difference between an engine's log-probabilities and the learner's, through its packed trees."""
    agent_of = {policy: agent for agent, policy in policies.policy_of.items()}
    asked = [(system + workload.queries[0], name) for system, name in zip(workload.systems, policies.names, strict=True)]
    prompts, names = [prompt for prompt, _ in asked], [name for _, name in asked]
    groups = engine.generate(prompts, 8, SamplingParams(max_new_tokens=16), names, workload.seeds(asked))
    sequences = [
        TrainSequence(name, agent_of[name], (*prompt, *sample.token_ids), len(prompt), rollout_logprobs=sample.rollout_logprobs)
        for (prompt, name), group in zip(asked, groups, strict=True)
        for sample in group
    ]
    worst = 0.0
    for sequence, found in zip(sequences, Learner(policies, LearnerConfig()).logprobs(sequences), strict=True):
        worst = max(worst, float((found - torch.tensor(sequence.rollout_logprobs)).abs().max()))
    return worst


def prefill(engine: Engine, workload: Workload) -> dict[str, float]:
    """Seconds for prompts of 1,000 tokens, without and with the first 900 of them known."""
    first, found = SamplingParams(max_new_tokens=1), dict[str, float]()
    beginnings = [workload.draw(900) for _ in range(8)]
    for name in ("cold", "cached"):
        engine.reset()
        if name == "cached":
            engine.generate(beginnings, 1, first, workload.names[0])
        prompts = [beginning + workload.draw(100) for beginning in beginnings]
        begin = time.perf_counter()
        engine.generate(prompts, 1, first, workload.names[0])
        found[name] = round(time.perf_counter() - begin, 4)
    return found


def main() -> None:
    """Prints a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "layers", "vllm", "generate"), required=True)
    parser.add_argument("--size", choices=tuple(SIZES), default="4m")
    parser.add_argument("--adapters", type=int, default=0, help="0: one policy, the whole network")
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--siblings", type=int, default=8)
    parser.add_argument("--action", type=int, default=16, help="tokens of every sample")
    parser.add_argument("--observation", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    policies = policies_of(args.size, args.adapters)
    engine = engine_of(args.engine, policies)
    begin = time.perf_counter()
    worst = gap(engine, policies, Workload(args, policies, 0))
    started, rates = time.perf_counter() - begin, []
    for number in range(1, args.rounds + 1):
        workload, before = Workload(args, policies, number), engine.stats
        engine.reset()
        begin, cpu_begin = time.perf_counter(), time.process_time()
        workload.play(engine)
        seconds, cpu, after = time.perf_counter() - begin, time.process_time() - cpu_begin, engine.stats
        rates.append((after.generated_tokens - before.generated_tokens) / seconds)
    prompt, cached = after.prompt_tokens - before.prompt_tokens, after.cached_tokens - before.cached_tokens
    found = {
        "parameters": sum(p.numel() for p in policies.bases[0].network.parameters()),
        "tokens_per_second": round(sorted(rates)[len(rates) // 2], 1),
        "seconds": round(seconds, 2),  # of the last round, as is what follows
        "cpu_seconds": round(cpu, 2),  # of all threads: with one thread it says more than the clock where others compute, too
        "generated": after.generated_tokens - before.generated_tokens,
        "prompt": prompt,
        "computed": prompt - cached,
        "hit_rate": round(cached / prompt, 4),
        "gap": worst,
        "outside": round(1 - (after.model_seconds - before.model_seconds) / (after.seconds - before.seconds), 3)
        if args.engine in ("local", "layers")
        else None,
        **prefill(engine, workload),
        "start_and_gap_seconds": round(started, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "threads": torch.get_num_threads(),
        "device": device_name(),
        "torch": torch.__version__,
    }
    print(json.dumps(vars(args) | found))


if __name__ == "__main__":
    main()
