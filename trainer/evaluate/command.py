"""`hima eval`: a policy on the benchmark, or on tau-bench's retail domain, as the paper's table."""

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trainer.agents import Agent, hima_ecom_agents
from trainer.escaping import for_terminal
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
from trainer.reading import check_seed, short

Score = Callable[[str], Report]  # plays the policy of a name
BASELINES = ("expert", "keyword", "random", "constant", "refuse", "copy")


def add_parser(subparsers: Any) -> None:
    """Adds `eval` to the command line."""
    parser = subparsers.add_parser("eval", help="score a policy on the benchmark")
    parser.add_argument(
        "--policy",
        nargs="+",
        required=True,
        help=f"one or several of {', '.join(BASELINES)}, all (the baselines), the folder of a run of hima train (as it was "
        "trained, with its memory), or the name or folder of a transformers model",
    )
    parser.add_argument("--base-url", help="an OpenAI-compatible endpoint that has the model; its key is OPENAI_API_KEY")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="AGENT=NAME",
        help="an agent's own PEFT adapter (folder or name), or with --base-url its own model there; once for each agent",
    )
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--per-column", type=_count, default=100, help="tasks of each column (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the store and the tasks")
    parser.add_argument("--file", type=Path, help="tasks of a JSONL file instead, with the store beside it")
    parser.add_argument(
        "--tau-retail", type=Path, metavar="FOLDER", help="tau-bench's retail domain from its data files instead"
    )
    parser.add_argument("--limit", type=_count, help="only the first so many tasks of a column")
    parser.add_argument("--batch-size", type=_count, default=16, help="of a transformers model")
    parser.add_argument("--max-new-tokens", type=_count, default=256, help="of one node")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path, help="write the report as JSON; of several policies a list")
    parser.set_defaults(run=_run)


def _count(text: str) -> int:
    """An integer of at least 1, for argparse."""
    if len(text) > 9:
        raise argparse.ArgumentTypeError(f"expected an integer of at most 9 digits, got {short(text)}")
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    if args.out and not args.out.parent.is_dir():  # before hours of play
        raise FileNotFoundError(f"--out: expected a file in a folder that exists, got {args.out}")
    check_seed("--seed", args.seed)
    names = BASELINES if args.policy == ["all"] else args.policy
    score = _retail(args) if args.tau_retail else _benchmark(args)
    reports = []
    for name in names:
        reports.append(score(name))
        print(reports[-1].table(), end="\n\n", flush=True)
    if args.out:
        write_whole(args.out, reports[0].dumps() if len(reports) == 1 else f"[{','.join(r.dumps() for r in reports)}]\n")
    return 0


def write_whole(path: Path, text: str) -> None:
    """The file holds `text`, or what it held before: see `checkpoint.replace_text`. A pipe or a device is written as it is."""
    from trainer.checkpoint import replace_text

    text.encode()  # an error before anything is written
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
    else:
        replace_text(path.resolve(), text)


def _tasks(args: argparse.Namespace) -> tuple[World, list[Task]]:
    if args.file:
        from trainer.hima_ecom.dataset import read_tasks

        store = args.file.with_name("store.sqlite")
        tasks = [task for task in read_tasks(args.file) if task.column in args.columns]
        return World.open(store) if store.is_file() else World.in_memory(args.seed, "full"), tasks
    world = World.in_memory(args.seed, "full")
    return world, [t for column in args.columns for t in make_tasks(world, args.seed, args.split, column, args.per_column)]


def _benchmark(args: argparse.Namespace) -> Score:
    world, tasks = _tasks(args)
    if args.limit:
        tasks = [task for column in args.columns for task in [t for t in tasks if t.column == column][: args.limit]]
    agents = hima_ecom_agents()

    def score(name: str) -> Report:
        with ExitStack() as stack:
            bar = stack.enter_context(_progress(len(tasks), name))
            shown: dict[str, Any] = {"name": name, "seed": args.seed, "on_end": lambda _: bar.update()}
            if (Path(name) / "config.yaml").is_file():
                from trainer.saved import open_run

                saved = stack.enter_context(open_run(name, device=args.device))
                if set(saved.policies.agents) != set(agents):
                    known, got = ", ".join(agents), ", ".join(saved.policies.agents)
                    raise ValueError(f"{name}: expected a run of the benchmark's agents {known}, got one of {got}")
                policy: Policy = saved.policy(temperature=args.temperature, seed=args.seed)
                return evaluate(policy, tasks, world, **shown, **saved.options())
            return evaluate(_policy(args, name, agents, lambda: ExpertPolicy(tasks)), tasks, world, **shown)

    return score


def _retail(args: argparse.Namespace) -> Score:
    from trainer.tau_retail import TauRetailEnv, load
    from trainer.tau_retail.agent import NAME, tau_retail_agents

    retail = load(args.tau_retail)
    tasks = [task for split in retail.tasks.values() for task in split][: args.limit]
    agents = tau_retail_agents(retail)
    gold = {task.id: [render(action) for action in task.actions] + [render(_gold(task))] for task in tasks}
    jobs = [Job(id=task.id, column="retail", task=task, minimal_calls=len(task.actions)) for task in tasks]

    def score(name: str) -> Report:
        policy = _policy(args, name, agents, lambda: ReplayPolicy(gold))
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

    return score


def _gold(task: Any) -> Answer:
    return Answer(" ".join(task.outputs) or "It is done.")


def _policy(args: argparse.Namespace, name: str, agents: Mapping[str, Agent], expert: Callable[[], Policy]) -> Policy:
    """The policy of that name over these agents."""
    baselines: dict[str, Callable[[], Policy]] = {
        "expert": expert,
        "keyword": lambda: KeywordPolicy(agents),
        "random": lambda: RandomPolicy(agents, seed=args.seed),
        "constant": ConstantPolicy,
        "refuse": RefusingPolicy,
        "copy": CopyPolicy,
    }
    return baselines[name]() if name in baselines else _model(args, name, agents)


def _model(args: argparse.Namespace, name: str, agents: Mapping[str, Agent]) -> Policy:
    own = {}
    for pair in args.adapter:
        agent, equals, chosen = pair.partition("=")
        if not equals or not chosen or agent not in agents:
            raise ValueError(f"--adapter: expected AGENT=NAME with an agent of {', '.join(agents)}, got {pair!r}")
        own[agent] = chosen
    if args.base_url:
        from trainer.policies.endpoint import OpenAIPolicy

        return OpenAIPolicy(
            name, base_url=args.base_url, models=own, temperature=args.temperature, max_new_tokens=args.max_new_tokens
        )
    from trainer.policies.transformers import TransformersPolicy

    return TransformersPolicy(
        name,
        adapters=own,
        device=args.device,
        dtype=args.dtype,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        seed=args.seed,
        batch_size=args.batch_size,
    )


def _progress(total: int, name: str) -> Any:
    return tqdm(total=total, desc=for_terminal(name), unit="episode", disable=not sys.stderr.isatty(), leave=False)
