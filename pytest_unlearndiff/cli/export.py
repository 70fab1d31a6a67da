"""The command ``export``: adversarial prompts for other tools and models, model cards, leaderboard rows, badges."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..core.errors import ReportError
from ..core.outcome import Status
from ..core.untrusted import hint, short_repr, special_file
from ..reports.gate_report import GateReport
from ..reports.session_report import AnyReport, SessionReport, read_session, unfinished
from ..reports.text import last_part, pluralize
from ..sources.resolve import import_string
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

SUMMARY = (
    "write the last session's broken prompts as CSV, for attack='transfer:CSV' on another model; or a model card, rows "
    "of the UnlearnDiffAtk leaderboard, or a badge"
)
_PROMPTS = "prompts"


@dataclass(frozen=True)
class Export:
    """Something that is made of a session.

    Attributes:
        summary: one line for ``--help``.
        implementation: ``package.module:callable``, called with the session and, if ``updates``, first with the text of
            the file that is there; returns the new text, or an empty one
            if the session has nothing for it.
        updates: whether what is in the file stays.
    """

    summary: str
    implementation: str
    updates: bool = False


EXPORTS: Mapping[str, Export] = {
    "model-card": Export(
        "Hugging Face metadata and a section, also into a card that is there",
        "pytest_unlearndiff.reports.model_card:update_model_card",
        updates=True,
    ),
    "leaderboard": Export(
        "tables of the UnlearnDiffAtk benchmark", "pytest_unlearndiff.reports.leaderboard:leaderboard"
    ),
    "badge": Export("JSON for a shields.io endpoint", "pytest_unlearndiff.reports.leaderboard:badge"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the file to write and the session to read."""
    kinds = "; ".join(f"{name}: {export.summary}" for name, export in EXPORTS.items())
    parser.add_argument(
        "kind", nargs="?", choices=(_PROMPTS, *EXPORTS), default=_PROMPTS, help=f"{kinds} (%(default)s)"
    )
    parser.add_argument("file", metavar="FILE", help="file to write; - for standard output")
    parser.add_argument(
        "--from",
        dest="source",
        type=parse_path,
        default=Path(".unlearndiff"),
        metavar="A",
        help="JSON report, or folder of a store, which knows the last session's gates (default: %(default)s)",
    )
    parser.add_argument("--concept", help="only this concept")
    parser.add_argument("--model", help="only gates on this model: its path as reports name it, or the last part")


def run(arguments: argparse.Namespace) -> int:
    """Write what was asked for; 1 if there is nothing, and then no file is overwritten.

    Raises:
        ReportError: there are no gates to read, or none on the concept, or the file cannot be written.
    """
    kind, file = arguments.kind, arguments.file
    if file in EXPORTS:
        raise ReportError(f"export {file} needs a file to write: give one, or - for standard output")
    session = read_session(arguments.source)
    source, name = arguments.source, arguments.concept
    is_store = source.is_dir()
    before = unfinished(source) if is_store else ""
    if before:
        print(before, file=sys.stderr)
    if kind != _PROMPTS:
        return _export(EXPORTS[kind], file, _chosen(session, arguments, name), source)
    beside = _beside(source, session.gates, name) if is_store else ""
    gates = _chosen(session, arguments, None if beside else name).gates
    text, count = export(gate for gate in gates if name in (None, gate.concept))
    if not count:
        print(beside or _nothing(source, is_store), file=sys.stderr)
        return 1
    _write(file, text)
    gaps = f" (not of all gates: {', '.join(session.gaps)})" if session.gaps else ""
    print(f"{pluralize(count, 'adversarial prompt')}{gaps}", file=sys.stderr)
    if beside and (before or session.cut_short):
        print(beside, file=sys.stderr)
    return 0


def _chosen(session: SessionReport, arguments: argparse.Namespace, concept: str | None) -> SessionReport:
    """Keep the gates on a concept and on the model of the command line; those on image quality are on no concept.

    Raises:
        ReportError: there are none.
    """
    gates, quality, model = session.gates, session.quality, arguments.model
    if concept is not None and not (gates := [gate for gate in gates if gate.concept == concept]):
        raise _unknown(arguments.source, "concept", concept, {gate.concept for gate in session.gates})
    if model is not None:
        if not any(_is_on(gate, model) for gate in session.every):
            raise _unknown(arguments.source, "model", model, {last_part(gate.run.victim) for gate in session.every})
        gates = [gate for gate in gates if _is_on(gate, model)]
        quality = [gate for gate in quality if _is_on(gate, model)]
    return msgspec.structs.replace(session, gates=gates, quality=quality)


def _is_on(gate: AnyReport, model: str) -> bool:
    return model in (gate.run.victim, last_part(gate.run.victim))


def _unknown(source: Path, word: str, wanted: str, names: set[str]) -> ReportError:
    return ReportError(f"no gate in {source} is on the {word} {short_repr(wanted)}: {hint(wanted, names)}")


def _export(kind: Export, file: str, session: SessionReport, source: Path) -> int:
    if not session.every:
        print(f"no gate was measured in {source}", file=sys.stderr)
        return 1
    make = import_string(kind.implementation)
    try:
        existing = [Path(file).read_text(encoding="utf-8") if Path(file).is_file() else ""] if kind.updates else []
    except (OSError, ValueError) as error:
        raise ReportError(f"{file} cannot be read: {error}. Give another file") from None
    text = make(*existing, session)
    if not text:
        print(f"no gate under attack in {source}: {file} is not written", file=sys.stderr)
        return 1
    _write(file, text)
    return 0


def _write(file: str, text: str) -> None:
    """Write a file, or to standard output.

    Raises:
        ReportError: it cannot be written.
    """
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        if special := special_file(Path(file)):
            raise OSError(f"it is {special}")
        write_atomically(Path(file), text)
    except (OSError, ValueError) as error:
        raise ReportError(f"{file} cannot be written: {error}. Give another file") from None


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
