"""``python -m pytest_unlearndiff COMMAND``: inspect models, calibrate judges, write reports again, tend stores."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .cli import calibrate, export, inspect, q16, quality, report, store
from .cli.command import with_own_options
from .core.errors import UnlearnDiffError
from .core.untrusted import printable

COMMANDS = (
    *inspect.COMMANDS, *calibrate.COMMANDS, *quality.COMMANDS, *report.COMMANDS, *export.COMMANDS, *q16.COMMANDS,
    *store.COMMANDS,
)  # fmt: skip

_TORCH_EXTRA = ("diffusers", "huggingface_hub", "PIL", "safetensors", "torch", "transformers")
_EXTRAS = {**dict.fromkeys(_TORCH_EXTRA, "torch"), "torchmetrics": "quality"}
"""Modules that an extra installs."""


class _Parser(argparse.ArgumentParser):
    """Parser whose errors a terminal shows as they are: argparse repeats unknown arguments without quotes."""

    def error(self, message: str) -> NoReturn:
        """Escape a message, print it after the usage, and exit with status 2."""
        super().error(printable(message, 1_000))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; the process's own if None.

    Returns:
        Exit status: 0 for success, 1 if the command's answer is no or it failed, 2 for a wrong command line.
    """
    parser = _Parser(
        prog="python -m pytest_unlearndiff",
        description=__doc__.split(": ")[1],
        epilog="exit status: 0 for success, 1 if the answer is no or the command failed, 2 for a wrong command line",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
        sys.stdout.flush()
    except UnlearnDiffError as error:
        print(f"{parser.prog} {chosen.command}: {with_own_options(str(error), vars(chosen))}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (extra := _EXTRAS.get(str(error.name))) is None:
            raise
        needed = f'needs {error.name}: pip install "pytest-unlearndiff[{extra}]"'
        print(f"{parser.prog} {chosen.command}: {needed}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as head, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
