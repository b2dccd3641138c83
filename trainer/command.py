"""`hima train` and `hima sft`: a run of a configuration."""

import argparse
import shlex
import signal
import warnings
from pathlib import Path
from typing import Any

from trainer.escaping import for_terminal


def add_parser(subparsers: Any) -> None:
    """Adds `train` and `sft` to the command line."""
    for name, help in (
        ("train", "SFT, then VR-GRPO, as a configuration says"),
        ("sft", "the SFT stage of a configuration alone"),
    ):
        parser = subparsers.add_parser(name, help=help)
        parser.add_argument("config", metavar="CONFIG", type=Path, help="a YAML file, such as configs/tiny.yaml")
        parser.add_argument("changes", metavar="key=value", nargs="*", help="over the file, such as learner.learning_rate=1e-3")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--resume", action="store_true", help="go on with the run in output_dir")
        where.add_argument("--overwrite", action="store_true", help="delete the run in output_dir first")
        parser.set_defaults(run=_run, only_sft=name == "sft")


def _run(args: argparse.Namespace) -> int:
    from tqdm import tqdm
    from transformers.utils import logging

    from trainer.config import TrainConfig
    from trainer.run_folder import remove
    from trainer.trainer import VRGRPOTrainer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    changes = [*args.changes, *(["max_steps=0"] if args.only_sft else [])]
    config = TrainConfig.load(args.config, changes)
    trainer = VRGRPOTrainer(args=config, on_report=lambda report: tqdm.write(report.table() + "\n"))
    if args.overwrite:
        remove(Path(config.output_dir))
    result = trainer.train(resume_from_checkpoint=args.resume)
    if result.stopped is None:
        steps = f"finished after {result.global_step} steps; the policies are in {config.output_dir}/final"
        print(for_terminal(f"{config.output_dir}: {steps}"))
        return 0
    again = shlex.join(["hima", "sft" if args.only_sft else "train", str(args.config), *args.changes, "--resume"])
    stopped = f"stopped by {result.stopped} after step {result.global_step}; go on with: {again}"
    print(for_terminal(f"{config.output_dir}: {stopped}"))
    return 128 + signal.Signals[result.stopped]
