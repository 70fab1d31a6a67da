"""The HTML report: one file that needs nothing else, for the person who decides on a release."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ..core.concept import Prompt
from ..core.outcome import Status
from ..core.rate import fine_percent, percent
from ..store.store import Store
from ..store.thumbnails import Thumbnails
from .charts import HEIGHT, WIDTH, Axis, Effort, efforts, scale, tick
from .comparison import Comparison
from .failure import and_more, blocked, hits, lacking, numbers, source, support, ungated
from .gate_report import MISSING, STATUSES, GateReport, PromptRecord
from .inserted_tokens import Piece, pieces
from .session import SessionReport
from .text import command, count, many, readable, safe, share, share_in_words, told_model
from .wording import Wording, wording

IMAGE_BYTES = 11_000_000
"""Base64 characters of images in one report at most: browsers open it at once, and it fits a mail."""

_FIRST = 3

# Whose images are shown first where not all fit.
_IMAGES_FIRST = (
    Status.HIT_UNDER_ATTACK,
    Status.HIT_WITHOUT_ATTACK,
    Status.ERROR,
    Status.BLOCKED,
    Status.RESISTED,
    MISSING,
)


def html_report(session: SessionReport, store: Store | None, changes: Sequence[Comparison] = ()) -> str:
    """The report as one HTML document.

    Args:
        session: what is reported.
        store: where thumbnails are; None for a report without images.
        changes: against an earlier session.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "safe_text": safe,
        "percent": percent,
        "tick": tick,
        "fine_percent": fine_percent,
        "readable": readable,
        "command": command,
        "many": many,
    }
    environment.globals |= {
        "share": share,
        "share_in_words": share_in_words,
        "count": count,
        "source": source,
        "lacking": lacking,
        "support": support,
        "ungated": ungated,
        "told_model": told_model,
        "wording": wording,
        "blocked": blocked,
    }
    style, script = _part("report.css"), _part("report.js")
    shown, left_out = _images(session, store)
    return environment.get_template("report.html.j2").render(
        session=session,
        gates=_views(session, shown),
        end=scale(session.gates),
        changes=changes,
        width=WIDTH,
        height=HEIGHT,
        statuses=STATUSES,
        images=store is not None,
        left_out=left_out,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


@dataclass(frozen=True)
class First:
    """The first prompts that drew the concept in one way.

    Attributes:
        title: of the list.
        prompts: each in pieces with whether each was inserted.
        more: how many there are beside them; empty for none.
    """

    title: str
    prompts: list[tuple[PromptRecord, list[Piece]]]
    more: str


@dataclass(frozen=True)
class View:
    """A gate as the template reads it.

    Attributes:
        id: of its section.
        record: the gate.
        axis: its place on the common axis.
        efforts: its curves.
        words: for what became of its prompts.
        tally: how many prompts ended in which way, those that none did left out.
        first: the first prompts that broke through, and those that need no attack.
        facts: provenance, by name.
        data: what the script shows of each prompt.
    """

    id: str
    record: GateReport
    axis: Axis
    efforts: list[Effort]
    words: Wording
    tally: dict[str, int]
    first: list[First]
    facts: dict[str, Any]
    data: dict[str, Any]


def _views(session: SessionReport, shown: dict[tuple[int, str], list[str]]) -> list[View]:
    end = scale(session.gates)
    views = []
    for number, record in enumerate(session.worst_first, start=1):
        tally, words = {status: len(record.ended(status)) for status in STATUSES}, wording(record.attack)
        data = {
            "replay": command(record.replay),
            "labels": {status: words.label(status) for status in STATUSES},
            "said": {Status.HIT_WITHOUT_ATTACK: words.draws, Status.RESISTED: words.holds},
            "attacked": words.without_attack != "",
            "prompts": [
                _data(prompt, record.rounds, shown.get((id(record), prompt.digest), [])) for prompt in record.prompts
            ],
        }
        facts = {"prompts": numbers(record), "key": record.key, **record.campaign, **record.assumed}
        views.append(
            View(
                id=f"gate-{number}",
                record=record,
                axis=Axis.of(record, end),
                efforts=efforts(record),
                words=words,
                tally={status: found for status, found in tally.items() if found},
                first=[first for status in hits(record) if (first := _first(record, status, words)).prompts],
                facts={name.replace("_", " "): value for name, value in facts.items() if value or value == 0},
                data=data,
            )
        )
    return views


def _first(record: GateReport, status: Status, words: Wording) -> First:
    ended, broken = record.ended(status), status is Status.HIT_UNDER_ATTACK
    return First(
        "First prompts that broke through" if broken else words.first,
        [(prompt, pieces(prompt) if broken else [(prompt.text, False)]) for prompt in ended[:_FIRST]],
        and_more(record, status, _FIRST) if len(ended) > _FIRST else "",
    )


def _broke(prompt: PromptRecord, rounds: int | None) -> str:
    """Where in the schedule a prompt broke; empty where it did not, or where that is not known."""
    if prompt.round is None:
        return ""
    where = [f"round {prompt.round} of {rounds}" if rounds else f"attempt {prompt.round}"]
    where += [f"timestep {prompt.timestep}"] * (prompt.timestep is not None)
    where += [f"step {prompt.steps}"] * (prompt.steps > 0)
    return ", ".join([*where, f"{prompt.forwards} UNet forwards"])


def _data(prompt: PromptRecord, rounds: int | None, images: list[str]) -> dict[str, Any]:
    """A prompt for the script, without what is not there."""
    known = {
        "case": prompt.case,
        "text": prompt.text,
        "status": prompt.status,
        "seed": prompt.seed,
        "guidance": prompt.guidance,
        "drawn": prompt.drawn,
        "attacked": pieces(prompt),
        "score": prompt.score,
        "detail": prompt.detail,
        "evaluations": prompt.evaluations,
        "steps": prompt.steps,
        "forwards": prompt.forwards,
        "broke": _broke(prompt, rounds),
        "error": prompt.error,
        "images": images,
    }
    return {name: value for name, value in known.items() if value not in (None, "", [])}


def _images(session: SessionReport, store: Store | None) -> tuple[dict[tuple[int, str], list[str]], int]:
    """Images by gate and prompt (base, victim, victim under attack), and how many prompts' had to be left out."""
    shown: dict[tuple[int, str], list[str]] = {}
    left_out, room = 0, IMAGE_BYTES
    if store is None:
        return shown, left_out
    for status in _IMAGES_FIRST:
        for record in session.worst_first:
            kept = store.thumbnails(record.concept, record.key)
            for prompt in record.ended(status):
                three = [_encoded(data) for data in _three(kept, prompt)]
                size = sum(map(len, three))
                if size > room:
                    left_out += 1
                elif size:
                    room -= size
                    shown[id(record), prompt.digest] = three
    return shown, left_out


def _three(kept: Thumbnails, prompt: PromptRecord) -> Iterator[bytes | None]:
    attacked: Prompt | None = prompt.attacked
    yield kept.read(prompt.digest, base=True)
    yield kept.read(prompt.digest)
    yield kept.read(attacked.digest) if attacked is not None else None


def _encoded(data: bytes | None) -> str:
    return "" if data is None else base64.b64encode(data).decode("ascii")


def _part(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content security policy calls an inline script or style (CSP level 3, section 6.7.2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
