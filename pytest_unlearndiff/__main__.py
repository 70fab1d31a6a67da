"""``python -m pytest_unlearndiff COMMAND``: what is done beside a test session."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from .core.errors import UnlearnDiffError

# Each is a module of ``cli`` with SUMMARY, ``add_arguments(parser)`` and ``run(arguments) -> exit status``.
COMMANDS: tuple[str, ...] = (
    "inspect", "calibrate", "show", "report", "compare", "export", "clear", "prune", "pull", "push",
)  # fmt: skip


_OF_TORCH = ("diffusers", "PIL", "safetensors", "torch", "transformers")
"""What the extra of that name installs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name; the process's own where None.

    Returns:
        Exit status: 0 for success, 1 where the command's answer is no, 2 where it was called wrongly.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pytest_unlearndiff",
        description=__doc__.split(": ")[1],
        epilog="exit status: 0 where it is done, 1 where the answer is no or it cannot be done, 2 where called wrongly",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f".cli.{name}", __package__)
        command = commands.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
        sys.stdout.flush()
    except UnlearnDiffError as error:
        print(f"{parser.prog} {chosen.command}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name not in _OF_TORCH:
            raise
        needed = f'needs {error.name}: pip install "pytest-unlearndiff[torch]"'
        print(f"{parser.prog} {chosen.command}: {needed}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has read enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
