"""`hima eval`: a policy on the benchmark, or on tau-bench's retail domain, as the paper's table."""

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trainer.agents import hima_ecom_agents
from trainer.evaluate import Job, Report, evaluate, evaluate_jobs
from trainer.hima_ecom import World
from trainer.hima_ecom.tasks import COLUMNS, Task, make_tasks
from trainer.policies import (
    ConstantPolicy,
    CopyPolicy,
    ExpertPolicy,
    KeywordPolicy,
    Policy,
    RandomPolicy,
    RefusingPolicy,
    ReplayPolicy,
)
from trainer.react import Answer, render

BASELINES = ("expert", "keyword", "random", "constant", "refuse", "copy")


def add_parser(subparsers: Any) -> None:
    """Adds `eval` to the command line."""
    parser = subparsers.add_parser("eval", help="score a policy on the benchmark")
    parser.add_argument(
        "--policy",
        nargs="+",
        required=True,
        help=f"one or several of {', '.join(BASELINES)}, all (the baselines), or the name or folder of a transformers model",
    )
    parser.add_argument("--base-url", help="an OpenAI-compatible endpoint that has the model; its key is OPENAI_API_KEY")
    parser.add_argument("--adapter", action="append", default=[], metavar="AGENT=FOLDER", help="a PEFT adapter of an agent")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--per-column", type=int, default=100, help="tasks of each column (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the store and the tasks")
    parser.add_argument("--file", type=Path, help="tasks of a JSONL file instead, with the store beside it")
    parser.add_argument(
        "--tau-retail", type=Path, metavar="FOLDER", help="tau-bench's retail domain from its data files instead"
    )
    parser.add_argument("--limit", type=int, help="only the first so many tasks of a column")
    parser.add_argument("--batch-size", type=int, default=16, help="of a transformers model")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="of one node")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path, help="write the last report as JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    report = None
    for name in BASELINES if args.policy == ["all"] else args.policy:
        report = _retail(args, name) if args.tau_retail else _benchmark(args, name)
        print(report.table(), end="\n\n")
    if args.out and report is not None:
        args.out.write_text(report.dumps())
    return 0


def _tasks(args: argparse.Namespace) -> tuple[World, list[Task]]:
    if args.file:
        from trainer.hima_ecom.dataset import read_tasks

        store = args.file.with_name("store.sqlite")
        tasks = [task for task in read_tasks(args.file) if task.column in args.columns]
        return World.open(store) if store.is_file() else World.in_memory(args.seed, "full"), tasks
    world = World.in_memory(args.seed, "full")
    return world, [t for column in args.columns for t in make_tasks(world, args.seed, args.split, column, args.per_column)]


def _benchmark(args: argparse.Namespace, name: str) -> Report:
    world, tasks = _tasks(args)
    if args.limit:
        tasks = [task for column in args.columns for task in [t for t in tasks if t.column == column][: args.limit]]
    agents = hima_ecom_agents()
    policies = {
        "expert": lambda: ExpertPolicy(tasks),
        "keyword": lambda: KeywordPolicy(agents),
        "random": lambda: RandomPolicy(agents, seed=args.seed),
        "constant": ConstantPolicy,
        "refuse": RefusingPolicy,
        "copy": CopyPolicy,
    }
    policy = policies[name]() if name in policies else _model(args, name)
    with _progress(len(tasks), name) as bar:
        return evaluate(policy, tasks, world, name=name, seed=args.seed, on_end=lambda _: bar.update())


def _retail(args: argparse.Namespace, name: str) -> Report:
    from trainer.tau_retail import TauRetailEnv, load
    from trainer.tau_retail.agent import NAME, tau_retail_agents

    retail = load(args.tau_retail)
    tasks = [task for split in retail.tasks.values() for task in split][: args.limit]
    agents = tau_retail_agents(retail)
    gold = {task.id: [render(action) for action in task.actions] + [render(_gold(task))] for task in tasks}
    policies = {
        "expert": lambda: ReplayPolicy(gold),
        "random": lambda: RandomPolicy(agents, seed=args.seed),
        "constant": ConstantPolicy,
        "refuse": RefusingPolicy,
        "copy": CopyPolicy,
    }
    if name == "keyword":
        raise ValueError("--policy: keyword is written for the benchmark's own agents, not for the retail domain")
    policy = policies[name]() if name in policies else _model(args, name)
    jobs = [Job(id=task.id, column="retail", task=task, minimal_calls=len(task.actions)) for task in tasks]
    with _progress(len(jobs), name) as bar:
        return evaluate_jobs(
            policy,
            jobs,
            lambda: TauRetailEnv(retail),
            agents,
            entry=NAME,
            name=name,
            split="tau-bench retail, no simulated user",
            seed=args.seed,
            on_end=lambda _: bar.update(),
        )


def _gold(task: Any) -> Answer:
    return Answer(" ".join(task.outputs) or "It is done.")


def _model(args: argparse.Namespace, name: str) -> Policy:
    if args.base_url:
        from trainer.policies.endpoint import OpenAIPolicy

        return OpenAIPolicy(name, base_url=args.base_url, temperature=args.temperature, max_new_tokens=args.max_new_tokens)
    from trainer.policies.transformers import TransformersPolicy

    adapters = {}
    for pair in args.adapter:
        agent, equals, folder = pair.partition("=")
        if not equals or agent not in hima_ecom_agents():
            raise ValueError(f"--adapter: expected AGENT=FOLDER with an agent of {', '.join(hima_ecom_agents())}, got {pair!r}")
        adapters[agent] = folder
    return TransformersPolicy(
        name,
        adapters=adapters,
        device=args.device,
        dtype=args.dtype,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        seed=args.seed,
        batch_size=args.batch_size,
    )


def _progress(total: int, name: str) -> Any:
    return tqdm(total=total, desc=name, unit="episode", disable=not sys.stderr.isatty(), leave=False)
