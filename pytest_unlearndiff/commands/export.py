"""Adversarial prompts for other tools and other models."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..core.checks import hint
from ..core.errors import ReportError
from ..core.untrusted import shown, special_file
from ..reports.prompt_export import export
from ..reports.reading import read_gates
from ..store.fingerprint import write_atomically
from .arguments import path_of

SUMMARY = "write the prompts that broke in the last session as CSV, for attack='transfer:CSV' on another model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    parser.add_argument("file", metavar="CSV", help="file to write; - for standard output")
    parser.add_argument(
        "--from",
        dest="source",
        type=path_of,
        default=Path(".unlearndiff"),
        metavar="A",
        help="JSON report, or folder of a store, which knows the last session's gates (default: %(default)s)",
    )
    parser.add_argument("--concept", help="only prompts of this concept")


def run(arguments: argparse.Namespace) -> int:
    """Write them; 1 where there are none, and then nothing is written over.

    Raises:
        ReportError: there are no gates to read, or none on the concept, or the file cannot be written.
    """
    gates = read_gates(arguments.source)
    if (name := arguments.concept) is not None:
        known = {gate.concept for gate in gates}
        if name not in known:
            raise ReportError(f"no gate in {arguments.source} is on the concept {shown(name)}: {hint(name, known)}")
        gates = [gate for gate in gates if gate.concept == name]
    text, count = export(gates)
    if not count:
        print(
            f"no prompt broke in {arguments.source}, which has the gates of one session. Run those whose prompts you "
            "want again, which the store answers",
            file=sys.stderr,
        )
        return 1
    if arguments.file == "-":
        sys.stdout.write(text)
    else:
        try:
            if special := special_file(Path(arguments.file)):
                raise OSError(f"it is {special}")
            write_atomically(Path(arguments.file), text)
        except (OSError, ValueError) as error:
            raise ReportError(f"{arguments.file} cannot be written: {error}. Give another file") from None
    print(f"{count} adversarial prompts", file=sys.stderr)
    return 0
