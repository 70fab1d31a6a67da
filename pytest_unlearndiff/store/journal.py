"""Finished outcomes of one campaign on disk: one line each, appended, believed only in that campaign."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from ..core.outcome import Outcome, Status
from .files import is_regular, read_regular, write_atomically
from .key import digest

SCHEMA = 2

JOURNAL_BYTES = 2**30
"""Largest journal: some 2,000,000 prompts, or 90,000 with 2,048 features each."""

_MAY_DIFFER = {"seconds", "score", "detail", "forwards", "steps", "timestep", "tokens", "features"}
"""Outcome fields that two machines may report differently for the same result: cost, and rounded numbers."""


class Rejection(StrEnum):
    """Reason not to believe a line; the value is how people are told."""

    DAMAGED = "damaged"
    """Torn or altered."""
    OUTDATED = "of another version"
    """Written by another version of this project."""
    FOREIGN = "written for another campaign"
    CONTRADICTING = "contradicting each other"
    """Another line says something else of the same attempt at the same prompt."""
    MISPLACED = "in a folder of another campaign"
    """In a folder whose ``key.json`` is another campaign's."""


@dataclass(frozen=True)
class RejectedLines:
    """Lines that were not believed, counted by reason.

    Attributes:
        counts: lines by reason.
        notes: problems with whole folders, with the remedy.
    """

    counts: Mapping[Rejection, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> int:
        """Total number of lines."""
        return sum(self.counts.values())

    @property
    def reasons(self) -> str:
        """Text such as ``1 damaged, 2 written for another campaign``; empty if every line was believed."""
        return ", ".join(f"{count} {reason}" for reason in Rejection if (count := self.counts.get(reason)))

    def __add__(self, other: RejectedLines) -> RejectedLines:
        return RejectedLines(dict(Counter(self.counts) + Counter(other.counts)), self.notes + other.notes)


class StoredOutcomes(NamedTuple):
    """Finished outcomes by prompt digest, and the lines that were not believed."""

    outcomes: dict[str, Outcome]
    rejected: RejectedLines = RejectedLines()


@dataclass(frozen=True)
class JournalLine:
    """One line of a journal.

    Attributes:
        outcome: of a prompt.
        attempt: 1 if nothing was known of the prompt when it was attacked, else one more than what was known then. The
            later of two attempts counts; two outcomes of one attempt have to agree.
    """

    outcome: Outcome
    attempt: int = 1

    def agrees_with(self, other: JournalLine) -> bool:
        """Compare two outcomes of one attempt in everything that decides a verdict."""
        return all(
            getattr(self.outcome, part.name) == getattr(other.outcome, part.name)
            for part in fields(Outcome)
            if part.name not in _MAY_DIFFER
        )

    def encode(self, campaign: str) -> bytes:
        """Write the line as in the journal of the campaign with this key digest, with its check and line end."""
        outcome = self.outcome.to_dict()
        entry = {
            "schema": SCHEMA,
            "campaign": campaign,
            "attempt": self.attempt,
            "outcome": outcome,
            "check": _check(campaign, self.attempt, outcome),
        }
        return json.dumps(entry, ensure_ascii=True).encode() + b"\n"


class JournalContent(NamedTuple):
    """Lines of finished prompts that belong to a campaign, and the lines that do not."""

    lines: Sequence[JournalLine] = ()
    rejected: RejectedLines = RejectedLines()

    @property
    def attempts(self) -> dict[str, int]:
        """Number of the last attempt at each prompt, by prompt digest."""
        last: dict[str, int] = {}
        for line in self.lines:
            last[line.outcome.prompt] = max(line.attempt, last.get(line.outcome.prompt, 0))
        return last

    def resolve(self) -> tuple[dict[str, JournalLine], RejectedLines]:
        """Choose the last attempt's line for each prompt; lines of one attempt that disagree are all rejected."""
        last, candidates = self.attempts, dict[str, list[JournalLine]]()
        for line in self.lines:
            if line.attempt == last[line.outcome.prompt]:
                candidates.setdefault(line.outcome.prompt, []).append(line)
        believed = {
            prompt: lines[0]
            for prompt, lines in candidates.items()
            if all(line.agrees_with(lines[0]) for line in lines[1:])
        }
        contradicting = sum(len(lines) for prompt, lines in candidates.items() if prompt not in believed)
        rejected = RejectedLines({Rejection.CONTRADICTING: contradicting}) if contradicting else RejectedLines()
        return believed, self.rejected + rejected

    def outcomes(self) -> StoredOutcomes:
        """Outcomes that are believed."""
        believed, rejected = self.resolve()
        return StoredOutcomes({prompt: line.outcome for prompt, line in believed.items()}, rejected)


class Journal:
    """A file of outcomes that survives a kill at any byte.

    Each line carries a check of its outcome, its attempt and its campaign. A line that is torn, altered or of another
    campaign is skipped and counted, so its prompt is attacked again; a torn tail is closed before the next line is
    written.

    Args:
        path: the file; the first ``append`` creates it and its folder.
        campaign: digest of the campaign's key.
    """

    def __init__(self, path: Path, campaign: str) -> None:
        self.path = path
        self.campaign = campaign

    def read(self) -> JournalContent:
        """Read every line of a finished prompt; an errored prompt is not finished and is tried again.

        Raises:
            OSError: something is there that cannot be read.
        """
        try:
            return parse_journal(read_regular(self.path, JOURNAL_BYTES), self.campaign)
        except FileNotFoundError:
            return JournalContent()

    def append(self, outcome: Outcome, attempt: int = 1) -> None:
        """Write one outcome and wait until it is on disk.

        A second attempt replaces the first, which therefore cannot come back if the second is damaged.

        Raises:
            OSError: the disk does not take it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = JournalLine(outcome, attempt)
        if attempt > 1 and outcome.status is not Status.ERROR and self.path.exists():
            write_atomically(self.path, merge_lines(read_regular(self.path, JOURNAL_BYTES), [line], self.campaign))
            return
        if self.path.exists() and not is_regular(self.path):
            raise OSError(f"{self.path} is not a regular file: remove it")
        with self.path.open("ab") as file:
            if self._is_torn():
                file.write(b"\n")
            file.write(line.encode(self.campaign))
            file.flush()
            os.fsync(file.fileno())

    def _is_torn(self) -> bool:
        """Tell whether the last line lacks its end."""
        if self.path.stat().st_size == 0:
            return False
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"


def merge_lines(content: bytes, new: Iterable[JournalLine], campaign: str) -> bytes:
    """Append lines to a journal's content and drop the earlier attempts that they supersede."""
    added = list(new)
    last = JournalContent(added).attempts
    parsed = ((text, _parse_line(text, campaign)) for text in content.split(b"\n") if text.strip())
    kept = [
        text + b"\n"
        for text, line in parsed
        if isinstance(line, Rejection) or line.attempt >= last.get(line.outcome.prompt, 0)
    ]
    return b"".join([*kept, *(line.encode(campaign) for line in added)])


def parse_journal(content: bytes, campaign: str) -> JournalContent:
    """Parse the lines of finished prompts in the journal of the campaign with this key digest."""
    parsed = [_parse_line(text, campaign) for text in content.split(b"\n") if text.strip()]
    lines = [line for line in parsed if isinstance(line, JournalLine) and line.outcome.status is not Status.ERROR]
    return JournalContent(lines, RejectedLines(Counter(line for line in parsed if isinstance(line, Rejection))))


def _parse_line(text: bytes, campaign: str) -> JournalLine | Rejection:
    try:
        entry = json.loads(text)
        if type(entry["schema"]) is int and entry["schema"] != SCHEMA:
            return Rejection.OUTDATED
        owner, attempt = entry["campaign"], entry["attempt"]
        if entry["schema"] != SCHEMA or type(attempt) is not int or attempt < 1:
            return Rejection.DAMAGED
        if entry["check"] != _check(owner, attempt, entry["outcome"]) or not re.fullmatch("[0-9a-f]{16}", owner):
            return Rejection.DAMAGED
        line = JournalLine(Outcome.from_dict(entry["outcome"]), attempt)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Rejection.DAMAGED
    return line if owner == campaign else Rejection.FOREIGN


def _check(campaign: object, attempt: int, outcome: object) -> str:
    return digest([campaign, attempt, outcome])
