"""The command ``export``: adversarial prompts for other tools and other models."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.errors import ReportError
from ..core.outcome import Status
from ..core.untrusted import hint, short_repr, special_file
from ..reports.gate_report import GateReport
from ..reports.session_report import read_session, unfinished
from ..reports.text import pluralize
from ..store.campaign_dir import CampaignDir
from ..store.files import write_atomically
from ..store.store import Mode, Store
from .command import Command, parse_path

_NAMED = 3

# The first four are those that prompt sets are read by; the rest says where a prompt comes from. Case numbers are new,
# since one prompt may break under several attacks or victims, and a set has every number once.
_COLUMNS = (
    "case_number",
    "prompt",
    "evaluation_seed",
    "evaluation_guidance",
    "concept",
    "attack",
    "original_case",
    "original_prompt",
    "original_seed",
    "inserted",
    "detail",
)

SUMMARY = "write the prompts that broke in the last session as CSV, for attack='transfer:CSV' on another model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the file to write and the session to read."""
    parser.add_argument("file", metavar="CSV", help="file to write; - for standard output")
    parser.add_argument(
        "--from",
        dest="source",
        type=parse_path,
        default=Path(".unlearndiff"),
        metavar="A",
        help="JSON report, or folder of a store, which knows the last session's gates (default: %(default)s)",
    )
    parser.add_argument("--concept", help="only prompts of this concept")


def run(arguments: argparse.Namespace) -> int:
    """Write the adversarial prompts; 1 if there are none, and then no file is overwritten.

    Raises:
        ReportError: there are no gates to read, or none on the concept, or the file cannot be written.
    """
    gates, source, name = read_session(arguments.source).gates, arguments.source, arguments.concept
    is_store = source.is_dir()
    beside, before = (_beside(source, gates, name), unfinished(source)) if is_store else ("", "")
    if before:
        print(before, file=sys.stderr)
    if name is not None:
        concepts = {gate.concept for gate in gates}
        if name not in concepts and not beside:
            raise ReportError(f"no gate in {source} is on the concept {short_repr(name)}: {hint(name, concepts)}")
        gates = [gate for gate in gates if gate.concept == name]
    text, count = export(gates)
    if not count:
        print(beside or _nothing(source, is_store), file=sys.stderr)
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
    if beside and (before or read_session(source).cut_short):
        print(beside, file=sys.stderr)
    return 0


def export(gates: Iterable[GateReport]) -> tuple[str, int]:
    """Return every prompt that drew its concept under attack, each once, as CSV, and how many there are."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    seen: set[tuple[str, str, str]] = set()
    for gate in gates:
        for prompt in gate.prompts:
            attacked = prompt.attacked
            name = gate.concept, prompt.digest, attacked.digest if attacked is not None else ""
            if attacked is None or name in seen:
                continue
            evaluated = len(seen), attacked.text, attacked.seed, attacked.guidance
            origin = gate.concept, gate.attack, prompt.case, prompt.text, prompt.seed
            writer.writerow([*evaluated, *origin, prompt.inserted or "", prompt.detail])
            seen.add(name)
    return file.getvalue(), len(seen)


def _nothing(source: Path, is_store: bool) -> str:
    if not is_store:
        return f"no prompt broke in {source}"
    return (
        f"no prompt broke in the last session with {source}, and the store holds none of other campaigns that did. Run "
        "the gates whose prompts you want again, which the store answers"
    )


def _beside(root: Path, gates: Sequence[GateReport], concept: str | None) -> str:
    """Describe adversarial prompts in a store that no gate of its last session has; empty if there are none.

    The store knows them by a hash of the prompt they were found for; a session knows the prompts.
    """
    store = Store(root, Mode.RO)
    reported = {
        (store.campaign_by_digest(gate.concept, gate.key).name, prompt.digest)
        for gate in gates
        for prompt in gate.prompts
        if prompt.attacked is not None
    }
    unreported = {
        entry.name: number
        for entry in store.campaigns()
        if (concept is None or entry.belongs_to(concept))
        and (number := sum((entry.name, digest) not in reported for digest in _broken(entry)))
    }
    if not unreported:
        return ""
    names = ", ".join(sorted(unreported)[:_NAMED]) + (" and others" if len(unreported) > _NAMED else "")
    return (
        f"the store {root} holds {pluralize(sum(unreported.values()), 'adversarial prompt')} that no gate of its last "
        f"session has, of {names}: run their gates again, which the store answers, and export then"
    )


def _broken(entry: CampaignDir) -> list[str]:
    """List the digests of prompts that were hit under attack."""
    return [outcome.prompt for outcome in entry.outcomes()[0].values() if outcome.status is Status.HIT_UNDER_ATTACK]


COMMANDS = (Command("export", SUMMARY, add_arguments, run),)
