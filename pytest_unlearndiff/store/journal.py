"""Finished outcomes of one campaign on disk: one line each, appended, and believed only in that campaign."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from ..core.outcome import Outcome, Status
from .hashing import digest, write_atomically
from .regular_files import is_regular, read_regular

SCHEMA = 2

LARGEST = 256 * 2**20
"""Bytes of a journal at most: some 500,000 prompts."""

_OF_NO_WEIGHT = {"seconds", "score", "detail", "forwards", "steps", "timestep", "tokens"}
"""What two machines may say differently of a prompt that ended the same way on both: cost, and rounded numbers."""


@dataclass(frozen=True)
class Line:
    """One line of a journal.

    Attributes:
        outcome: what became of a prompt.
        attempt: 1 where nothing was known of the prompt when it was attacked, and one more than what was known then.
            Of two attempts the later counts; two outcomes of one attempt have to agree.
    """

    outcome: Outcome
    attempt: int = 1

    @property
    def decides(self) -> dict[str, object]:
        """What another outcome of the same attempt has to have in common with this one."""
        return {f.name: getattr(self.outcome, f.name) for f in fields(Outcome) if f.name not in _OF_NO_WEIGHT}

    def written(self, campaign: str) -> bytes:
        """This line as the journal of the campaign with this key digest holds it, with its check and its end."""
        data = self.outcome.to_dict()
        entry = {
            "schema": SCHEMA,
            "campaign": campaign,
            "attempt": self.attempt,
            "outcome": data,
            "check": _check(campaign, self.attempt, data),
        }
        return json.dumps(entry, ensure_ascii=True).encode() + b"\n"


@dataclass(frozen=True)
class Distrusted:
    """How many lines were not believed, and why.

    Attributes:
        damaged: torn or altered.
        outdated: of another version of this project.
        foreign: written for another campaign.
        contradicting: of the same prompt as another line that says something else.
        misplaced: in a folder that says it is another campaign's.
        notes: what is wrong with whole folders, and what to do.
    """

    damaged: int = 0
    outdated: int = 0
    foreign: int = 0
    contradicting: int = 0
    misplaced: int = 0
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> int:
        """How many."""
        return self.damaged + self.outdated + self.foreign + self.contradicting + self.misplaced

    @property
    def reasons(self) -> str:
        """``1 damaged, 2 written for another campaign``; empty where every line was believed."""
        said = (
            (self.damaged, "damaged"),
            (self.outdated, "of another version"),
            (self.foreign, "written for another campaign"),
            (self.contradicting, "contradicting each other"),
            (self.misplaced, "in a folder of another campaign"),
        )
        return ", ".join(f"{count} {reason}" for count, reason in said if count)

    def __add__(self, other: Distrusted) -> Distrusted:
        return Distrusted(
            self.damaged + other.damaged,
            self.outdated + other.outdated,
            self.foreign + other.foreign,
            self.contradicting + other.contradicting,
            self.misplaced + other.misplaced,
            self.notes + other.notes,
        )


class Lines(NamedTuple):
    """The lines of a journal that belong to its campaign, and the count of those that do not."""

    lines: Sequence[Line] = ()
    distrusted: Distrusted = Distrusted()

    @property
    def attempts(self) -> dict[str, int]:
        """The last attempt at each prompt."""
        found: dict[str, int] = {}
        for line in self.lines:
            found[line.outcome.prompt] = max(line.attempt, found.get(line.outcome.prompt, 0))
        return found

    def believed(self) -> tuple[dict[str, Line], int]:
        """By prompt digest, the last attempt's line, and how many lines contradict each other.

        Where lines of the last attempt do not agree, none of them is believed.
        """
        last, found, contradicting = self.attempts, dict[str, list[Line]](), 0
        for line in self.lines:
            if line.attempt == last[line.outcome.prompt]:
                found.setdefault(line.outcome.prompt, []).append(line)
        for prompt, (first, *others) in list(found.items()):
            if any(other.decides != first.decides for other in others):
                contradicting += len(found.pop(prompt))
        return {prompt: lines[0] for prompt, lines in found.items()}, contradicting

    def known(self) -> Known:
        """What this amounts to."""
        believed, contradicting = self.believed()
        outcomes = {prompt: line.outcome for prompt, line in believed.items()}
        return Known(outcomes, self.distrusted + Distrusted(contradicting=contradicting))


class Known(NamedTuple):
    """Finished outcomes by prompt digest, and what could not be trusted."""

    outcomes: dict[str, Outcome]
    distrusted: Distrusted = Distrusted()


class Journal:
    """A file of outcomes that survives a kill at any byte.

    Each line carries a check of its outcome, its attempt and its campaign. A line that is torn, altered or of another
    campaign is skipped and counted, so its prompt is attacked again; a torn tail is closed before the next line is
    written.

    Args:
        path: the file; it and its folder are created by the first ``append``.
        campaign: digest of the campaign's key.
    """

    def __init__(self, path: Path, campaign: str) -> None:
        self.path = path
        self.campaign = campaign

    def lines(self) -> Lines:
        """Every line of a finished prompt, and the count of what could not be trusted.

        Errors are not finished: a prompt that errored is tried again.

        Raises:
            OSError: something is there that cannot be read.
        """
        try:
            return parse(read_regular(self.path, LARGEST), self.campaign)
        except FileNotFoundError:
            return Lines()

    def read(self) -> Known:
        """Finished outcomes, and what could not be trusted.

        Raises:
            OSError: something is there that cannot be read.
        """
        return self.lines().known()

    def append(self, outcome: Outcome, attempt: int = 1) -> None:
        """Write one outcome and wait until the disk has it.

        A second attempt takes the place of the first, which so cannot come back when the second is damaged.

        Raises:
            OSError: the disk does not take it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = Line(outcome, attempt)
        if attempt > 1 and outcome.status is not Status.ERROR and self.path.exists():
            write_atomically(self.path, superseded(read_regular(self.path, LARGEST), [line], self.campaign))
            return
        if self.path.exists() and not is_regular(self.path):
            raise OSError(f"{self.path} is not a regular file: remove it")
        with self.path.open("ab") as file:
            if self._torn():
                file.write(b"\n")
            file.write(line.written(self.campaign))
            file.flush()
            os.fsync(file.fileno())

    def _torn(self) -> bool:
        """Whether the last line lacks its end."""
        if self.path.stat().st_size == 0:
            return False
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"


def superseded(content: bytes, new: Iterable[Line], campaign: str) -> bytes:
    """The content of a journal with these lines behind the others, and without those that they supersede."""
    added = list(new)
    last = Lines(added).attempts
    kept = [text for text in content.split(b"\n") if text.strip() and not _precedes(_parse(text, campaign), last)]
    return b"".join([*(text + b"\n" for text in kept), *(line.written(campaign) for line in added)])


def _precedes(line: Line | str, last: dict[str, int]) -> bool:
    return isinstance(line, Line) and line.attempt < last.get(line.outcome.prompt, 0)


def parse(content: bytes, campaign: str) -> Lines:
    """The lines of finished prompts in the journal of the campaign with this key digest."""
    lines: list[Line] = []
    reasons: list[str] = []
    for text in content.split(b"\n"):
        if not text.strip():
            continue
        line = _parse(text, campaign)
        if isinstance(line, str):
            reasons.append(line)
        elif line.outcome.status is not Status.ERROR:
            lines.append(line)
    return Lines(lines, Distrusted(reasons.count(_DAMAGED), reasons.count(_OUTDATED), reasons.count(_FOREIGN)))


_DAMAGED, _OUTDATED, _FOREIGN = "damaged", "outdated", "foreign"


def _parse(text: bytes, campaign: str) -> Line | str:
    """What a line says in this campaign, or why it is not believed."""
    try:
        entry = json.loads(text)
        if type(entry["schema"]) is int and entry["schema"] != SCHEMA:
            return _OUTDATED
        theirs, attempt = entry["campaign"], entry["attempt"]
        if entry["schema"] != SCHEMA or type(attempt) is not int or attempt < 1:
            return _DAMAGED
        if entry["check"] != _check(theirs, attempt, entry["outcome"]) or not re.fullmatch("[0-9a-f]{16}", theirs):
            return _DAMAGED
        line = Line(Outcome.from_dict(entry["outcome"]), attempt)
    except (ValueError, KeyError, TypeError, RecursionError):
        return _DAMAGED
    return line if theirs == campaign else _FOREIGN


def _check(campaign: object, attempt: int, outcome: object) -> str:
    return digest([campaign, attempt, outcome])
