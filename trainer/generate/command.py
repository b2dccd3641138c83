"""`hima generate RUN ["query" ...]`: talk to a trained system, and see who was called with what."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.escaping import for_terminal, lines_for_terminal
from trainer.react import Action, Answer
from trainer.reading import check_seed, lines_of

if TYPE_CHECKING:
    from trainer.generate.system import Said, System

_COLORS = (34, 33, 32, 35, 36, 31)  # of ANSI, an agent each
_DIM, _BOLD, _RED = 2, 1, 31


def shown(said: "Said", colors: Mapping[str, int] | None = None) -> str:
    """A turn in lines, indented by its depth; in colour with {agent: number of ANSI}."""
    step, lines = said.step, [_paint(f"memory: {lines_for_terminal(text)}", _DIM, colors) for text in said.strategies]
    name = _paint(for_terminal(said.agent), (colors or {}).get(said.agent, _BOLD), colors)
    if isinstance(step, Action | Answer) and step.thought:
        lines.append(f"{name} thinks: {_paint(lines_for_terminal(step.thought), _DIM, colors)}")
    if isinstance(step, Action):
        what = step.arguments["task"] if said.delegates else json.dumps(step.arguments, ensure_ascii=False)
        lines.append(f"{name} {'asks' if said.delegates else 'calls'} {step.name}: {lines_for_terminal(what)}")
    elif isinstance(step, Answer):
        lines.append(f"{name} answers: {lines_for_terminal(step.text)}")
    else:
        wrong = _paint("wrote what is outside the grammar", _RED, colors)
        lines.append(f"{name} {wrong} ({for_terminal(step.reason)}): {lines_for_terminal(said.text)}")
    if said.observation is not None:
        lines.append(_paint(f"  -> {lines_for_terminal(said.observation)}", _DIM, colors))
    pad = "    " * said.depth
    return "\n".join(pad + line for text in lines for line in text.splitlines())


def _paint(text: str, code: int, colors: Mapping[str, int] | None) -> str:
    return text if colors is None else f"\x1b[{code}m{text}\x1b[0m"


def add_parser(subparsers: Any) -> None:
    """Adds `generate` to the command line."""
    parser = subparsers.add_parser("generate", help="talk to a trained system, and see who was called")
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="a run's folder")
    parser.add_argument("queries", metavar="QUERY", nargs="*", help="default: the lines of standard input")
    parser.add_argument("--customer", help="who is logged in, such as C0001; default: nobody")
    parser.add_argument("--temperature", type=float, help="default: the run's eval_temperature")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    parser.add_argument("--device", help="default: the GPU if there is one")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from transformers.utils import logging

    from trainer.generate.system import open_system

    check_seed("--seed", args.seed)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with open_system(
        args.run_folder, customer=args.customer, device=args.device, temperature=args.temperature, seed=args.seed
    ) as system:
        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        colors = {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(system.agents)} if color else None
        for query in args.queries or _typed():
            if query.strip():
                _play(system, query.strip(), colors)
    return 0


def _typed() -> Iterable[str]:
    """Lines of standard input; on a terminal after a sign that one is expected, until it ends."""
    if not sys.stdin.isatty():
        yield from (text for _, text in lines_of(sys.stdin, "standard input"))
        return
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return


def _play(system: "System", query: str, colors: Mapping[str, int] | None) -> None:
    print(_paint(f"query: {lines_for_terminal(query)}", _BOLD, colors), flush=True)
    begin, turns = time.perf_counter(), 0
    for said in system.ask(query):
        turns += 1
        print(shown(said, colors), flush=True)
    outcome = system.outcome
    if outcome is None:
        print(_paint(f"no answer: the environment raised {lines_for_terminal(str(system.error))}", _RED, colors))
    else:
        found = outcome.answer
        answer = f"answer: {lines_for_terminal(found)}" if found is not None else f"no answer: {outcome.reason}"
        print(_paint(answer, _BOLD, colors))
        calls = f"turns: {turns}, calls of tools: {len(outcome.calls)}, of agents: {outcome.delegations}"
        print(_paint(f"{calls}, {time.perf_counter() - begin:.1f} s", _DIM, colors))
    print(flush=True)
