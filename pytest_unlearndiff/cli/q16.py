"""The command ``q16``: Q16's vectors, which are published as a pickle, as an array."""

from __future__ import annotations

import argparse

from .command import Command, load, parse_path


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=parse_path, metavar="PICKLE", help="prompts.p of the authors of the judge")
    parser.add_argument("target", type=parse_path, metavar="NPZ", help="file to write, such as q16.npz")


def run(arguments: argparse.Namespace) -> int:
    """Write the array."""
    load("judges.q16:convert")(arguments.source, arguments.target)
    print(f"wrote {arguments.target}")
    return 0


COMMANDS = (
    Command(
        "q16", "write the vectors of the judge Q16, published as a pickle, as an array, executing nothing of it",
        _add_arguments, run,
    ),
)  # fmt: skip
