"""`hima data`: generate a dataset, validate a file."""

import argparse
import sys
import time
from typing import Any

from trainer.escaping import for_terminal
from trainer.hima_ecom.dataset.read import validate
from trainer.hima_ecom.dataset.write import SIZE, write_dataset
from trainer.reading import check_seed

SHOWN = 100  # problems that are printed; the rest is counted


def add_parser(subparsers: Any) -> None:
    """Adds `data` to the command line."""
    data = subparsers.add_parser("data", help="make the benchmark's dataset, or check a file").add_subparsers(required=True)
    generate = data.add_parser("generate", help="write the dataset of a seed to a new folder")
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--size", type=int, default=SIZE, help=f"instances in all (default {SIZE:,}, the paper's)")
    generate.add_argument("--world", choices=("small", "full"), default="full", help="size of the store")
    generate.add_argument("--out", required=True, help="a new or an empty folder")
    generate.set_defaults(run=_generate)
    check = data.add_parser("validate", help="say of every bad line of a JSONL file what is wrong with it")
    check.add_argument("file", nargs="+")
    check.set_defaults(run=_validate)


def _generate(args: argparse.Namespace) -> int:
    check_seed("--seed", args.seed)
    start = time.monotonic()
    counts = write_dataset(args.out, seed=args.seed, size=args.size, world_size=args.world)
    took = time.monotonic() - start
    sft = counts["sft"]
    print(f"{for_terminal(args.out)}: {counts['instances']:,} instances in {took:.1f} s")
    print(f"  sft.jsonl    {sft['instances']:>7,}  ({sft['with_memory']:,} with memory)")
    for name in ("train", "test"):
        by_column = ", ".join(f"{column} {count}" for column, count in counts[name]["column"].items())
        print(f"  {name + '.jsonl':<12} {counts[name]['instances']:>7,}  ({by_column})")
    print("  README.md is the datasheet, store.sqlite the store")
    return 0


def _validate(args: argparse.Namespace) -> int:
    bad = 0
    for path in args.file:
        for found in validate(path):
            bad += 1
            if bad <= SHOWN:
                print(for_terminal(f"{path}:{found.line}: {found.reason}"))
    if bad > SHOWN:
        print(f"... and {bad - SHOWN:,} more")
    print(f"{bad:,} problems" if bad else "no problems", file=sys.stderr)
    return 1 if bad else 0
