"""`hima`: the command line. Each command is a room's own; this puts them together."""

import argparse
import sqlite3
import sys
import warnings
from typing import Any, NoReturn

from trainer import command as train
from trainer.escaping import for_terminal
from trainer.evaluate import command as evaluate
from trainer.generate import command as generate
from trainer.hima_ecom.dataset import command as data
from trainer.memory import command as memory
from trainer.report import command as report

# What a user can cause: one line, exit code 2. Anything else is a defect and shows its traceback.
EXPECTED = (ValueError, OSError, ImportError, sqlite3.DatabaseError)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage; options may stand anywhere among the arguments of a command."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, which by itself takes all arguments of a list (key=value ...) from one place only."""
        if self._mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._mixing = True  # what follows calls this again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {for_terminal(message)} (see {self.prog} --help)\n")


def _warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A warning in one line: it may repeat what files and environments say."""
    return for_terminal(f"{filename}:{lineno}: {category.__name__}: {message}") + "\n"


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    parser = _Parser(prog="hima", description="HiMA-R1: hierarchical multi-agent training and its benchmark")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for room in (data, train, evaluate, generate, report, memory):
        room.add_parser(commands)
    args = parser.parse_args(argv)
    warnings.formatwarning = _warning
    try:
        code: int = args.run(args)
    except BrokenPipeError:  # `hima ... | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    except EXPECTED as error:
        print(for_terminal(f"hima: {' '.join(str(error).split())}"), file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
