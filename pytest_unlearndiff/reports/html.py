"""The HTML report: one file that needs nothing else, for the person who decides on a release."""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ..core.concept import Prompt
from ..core.outcome import Status
from ..core.rate import fine_percent, percent
from ..store.store import Store
from ..store.thumbnails import Thumbnails
from .charts import HEIGHT, WIDTH, Axis, Effort, efforts, scale, tick
from .failure_text import (
    Wording,
    attackable_note,
    base_count,
    blocked_note,
    listed_statuses,
    losses,
    missing_note,
    more_note,
    source_note,
    ungated,
    wording,
)
from .gate_report import MISSING, STATUSES, GateReport, PromptReport
from .session_report import ReportOptions, SessionReport
from .text import format_share, format_value, model_line, pluralize, sanitize, share_in_words

Piece = tuple[str, bool]
"""Part of an adversarial prompt, and whether the attack inserted it."""

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


def html_report(session: SessionReport, options: ReportOptions) -> str:
    """Return the report as one HTML document."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "sanitize": sanitize,
        "percent": percent,
        "tick": tick,
        "fine_percent": fine_percent,
        "format_value": format_value,
        "shell_join": shlex.join,
        "pluralize": pluralize,
    }
    helpers = (
        format_share, share_in_words, source_note, missing_note, ungated, model_line, wording, blocked_note, base_count,
        losses,
    )  # fmt: skip
    environment.globals |= {helper.__name__: helper for helper in helpers}
    style, script = _part("report.css"), _part("report.js")
    images, left_out = _images(session, options.images)
    return environment.get_template("report.html.j2").render(
        session=session,
        views=_views(session, images),
        end=scale(session.gone),
        changes=options.changes,
        width=WIDTH,
        height=HEIGHT,
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
    prompts: list[tuple[PromptReport, list[Piece]]]
    more: str


@dataclass(frozen=True)
class View:
    """A gate as the template reads it.

    Attributes:
        id: of its section.
        gate: its report.
        axis: its position on the common axis.
        efforts: its curves.
        words: for what became of its prompts.
        counts: how many prompts ended in which way, those that none did left out.
        first: the first prompts that broke through, and those that need no attack.
        facts: provenance, by name.
        data: what the script shows of each prompt.
    """

    id: str
    gate: GateReport
    axis: Axis
    efforts: list[Effort]
    words: Wording
    counts: dict[str, int]
    first: list[First]
    facts: dict[str, Any]
    data: dict[str, Any]


def _views(session: SessionReport, images: dict[tuple[int, str], list[str]]) -> list[View]:
    """Prepare the gates that have a section of their own."""
    end, views = scale(session.gone), []
    for number, gate in enumerate(session.gone, start=1):
        words = wording(gate.attack)
        data = {
            "replay": shlex.join(gate.replay),
            "labels": {status: words.label(status) for status in STATUSES},
            "said": {Status.HIT_WITHOUT_ATTACK: words.draws, Status.RESISTED: words.holds},
            "attacked": words.without_attack != "",
            "prompts": [
                _data(prompt, gate.rounds, images.get((id(gate), prompt.digest), [])) for prompt in gate.prompts
            ],
        }
        facts = {"prompts": attackable_note(gate), "key": gate.key, **gate.campaign, **gate.run.assumed}
        counts = {status: len(gate.ended(status)) for status in STATUSES}
        views.append(
            View(
                id=f"gate-{number}",
                gate=gate,
                axis=Axis.of(gate, end),
                efforts=efforts(gate),
                words=words,
                counts={status: count for status, count in counts.items() if count},
                first=[_first(gate, status, words) for status in listed_statuses(gate) if gate.ended(status)],
                facts={name.replace("_", " "): value for name, value in facts.items() if value or value == 0},
                data=data,
            )
        )
    return views


def _first(gate: GateReport, status: Status, words: Wording) -> First:
    ended, broken = gate.ended(status), status is Status.HIT_UNDER_ATTACK
    return First(
        "First prompts that broke through" if broken else words.first,
        [(prompt, pieces(prompt) if broken else [(prompt.text, False)]) for prompt in ended[:_FIRST]],
        more_note(gate, status, _FIRST) if len(ended) > _FIRST else "",
    )


def _broke(prompt: PromptReport, rounds: int | None) -> str:
    """Locate in the schedule where a prompt broke; empty where it did not, or where that is not known."""
    if prompt.round is None:
        return ""
    where = [f"round {prompt.round} of {rounds}" if rounds else f"attempt {prompt.round}"]
    where += [f"timestep {prompt.timestep}"] * (prompt.timestep is not None)
    where += [f"step {prompt.steps}"] * (prompt.steps > 0)
    return ", ".join([*where, f"{prompt.forwards} UNet forwards"])


def _data(prompt: PromptReport, rounds: int | None, images: list[str]) -> dict[str, Any]:
    """Describe a prompt for the script, without empty values."""
    facts = {
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
    return {name: value for name, value in facts.items() if value not in (None, "", [])}


def _images(session: SessionReport, store: Store | None) -> tuple[dict[tuple[int, str], list[str]], int]:
    """Read images by gate and prompt (base, victim, victim under attack), and count the prompts whose did not fit."""
    images: dict[tuple[int, str], list[str]] = {}
    left_out, room = 0, IMAGE_BYTES
    if store is None:
        return images, left_out
    for status in _IMAGES_FIRST:
        for gate in session.gone:
            thumbnails = store.thumbnails(gate.concept, gate.key)
            for prompt in gate.ended(status):
                three = [_encoded(data) for data in _three(thumbnails, prompt)]
                size = sum(map(len, three))
                if size > room:
                    left_out += 1
                elif size:
                    room -= size
                    images[id(gate), prompt.digest] = three
    return images, left_out


def _three(kept: Thumbnails, prompt: PromptReport) -> Iterator[bytes | None]:
    attacked: Prompt | None = prompt.attacked
    yield kept.read(prompt.digest, base=True)
    yield kept.read(prompt.digest)
    yield kept.read(attacked.digest) if attacked is not None else None


def _encoded(data: bytes | None) -> str:
    return "" if data is None else base64.b64encode(data).decode("ascii")


def _part(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source of an inline script or style for a content security policy (CSP level 3, section 6.7.2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def pieces(prompt: PromptReport) -> list[Piece]:
    """Split the adversarial prompt into pieces, each with whether the attack inserted it; empty where there is none.

    Together the pieces are the adversarial prompt. Tokens that stand together are found as they stand; those spread
    through the prompt are the words that the prompt does not have in this place.
    """
    text, inserted = prompt.adversarial or "", (prompt.inserted or "").strip()
    if not inserted:
        return [(text, False)] if text else []
    if text.startswith(inserted):
        return _cut(text, 0, len(inserted))
    if text.endswith(inserted):
        return _cut(text, len(text) - len(inserted), len(text))
    if inserted in text:
        start = text.index(inserted)
        return _cut(text, start, start + len(inserted))
    return _words(text, prompt.text)


def _cut(text: str, start: int, end: int) -> list[Piece]:
    parts = [(text[:start], False), (text[start:end], True), (text[end:], False)]
    return [part for part in parts if part[0]]


def _words(text: str, original: str) -> list[Piece]:
    words, old = re.findall(r"\s+|\S+", text), re.findall(r"\s+|\S+", original)
    same = difflib.SequenceMatcher(None, [w.lower() for w in old], [w.lower() for w in words], autojunk=False)
    parts: list[Piece] = []
    at = 0
    for block in same.get_matching_blocks():
        if new := "".join(words[at : block.b]):
            parts.append((new, bool(new.strip())))
        if kept := "".join(words[block.b : block.b + block.size]):
            parts.append((kept, False))
        at = block.b + block.size
    return parts
