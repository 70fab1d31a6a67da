"""The HTML report: one file that needs nothing else, for the person who decides on a release."""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
import shlex
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

from ..core.attack_config import is_unattacked
from ..core.info import Threat
from ..core.outcome import Status
from ..core.rate import fine_percent, percent
from .charts import HEIGHT, WIDTH, Axis, Effort, Pair, efforts, pairs, scale, tick
from .evidence import PromptImages, SessionImages, read_images, strongest_evidence
from .failure_text import (
    Wording,
    attackable_note,
    base_count,
    blocked_note,
    count_without_attack,
    listed_statuses,
    losses,
    missing_note,
    more_note,
    scores_note,
    source_note,
    ungated,
    wording,
)
from .gate_report import GateReport, by_threat
from .gate_report_parts import MISSING, STATUSES, PromptReport
from .overview import VERDICTS, model_rows, session_facts, short_name, untested_notes
from .published import published_lines
from .quality_report import COLUMNS as QUALITY_COLUMNS
from .session_report import ReportOptions, SessionReport
from .text import format_share, format_value, model_line, pluralize, sanitize, share_in_words

Piece = tuple[str, bool]
"""Part of an adversarial prompt, and whether the attack inserted it."""

_FIRST = 3


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
        "wrapped": wrapped,
        "pluralize": pluralize,
    }
    helpers = (
        format_share, share_in_words, source_note, missing_note, ungated, model_line, wording, blocked_note, base_count,
        losses, count_without_attack,
    )  # fmt: skip
    environment.globals |= {helper.__name__: helper for helper in helpers}
    style, script = _part("report.css"), _part("report.js")
    images = read_images(session, options.images)
    return environment.get_template("report.html.j2").render(
        session=session,
        short=partial(short_name, session),
        views=_views(session, images),
        quality_columns=QUALITY_COLUMNS,
        models=model_rows(session),
        facts=session_facts(session),
        untested=untested_notes(session),
        evidence=strongest_evidence(session, images),
        verdicts={name: text for name, text in VERDICTS.items() if name in _verdicts(session)},
        end=scale(session.gone),
        changes=options.changes,
        threats=by_threat(session.gone),
        text=Threat.TEXT,
        width=WIDTH,
        height=HEIGHT,
        left_out=images.left_out,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _verdicts(session: SessionReport) -> set[str]:
    return {gate.verdict or "NO LIMIT" for gate in session.every}


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
        pairs: prompts of a kept concept, model against base.
        words: for what became of its prompts.
        attacked: whether its attack searches; others only draw.
        states: those that its prompts ended in.
        first: the first prompts that broke through, and those that need no attack.
        facts: provenance, by name.
        data: what the script shows of each prompt.
    """

    id: str
    gate: GateReport
    axis: Axis
    efforts: list[Effort]
    pairs: list[Pair]
    words: Wording
    attacked: bool
    states: list[State]
    first: list[First]
    facts: dict[str, Any]
    data: dict[str, Any]


@dataclass(frozen=True)
class State:
    """A way in which prompts of a gate ended.

    Attributes:
        status: its name in files.
        sign: of its cells.
        count: of prompts.
        label: for people.
        meaning: in a sentence.
    """

    status: str
    sign: str
    count: int
    label: str
    meaning: str


_SIGNS = {
    Status.HIT_WITHOUT_ATTACK: "\u25cf",
    Status.HIT_UNDER_ATTACK: "\u2715",
    Status.RESISTED: "\u00b7",
    Status.BLOCKED: "\u25a0",
    Status.ERROR: "!",
    MISSING: "?",
}

_NOT_NEEDED = "not needed"


def _states(gate: GateReport) -> dict[str, State]:
    """Describe the ways in which prompts of this gate can end."""
    words, attacked = wording(gate.attack), not is_unattacked(gate.attack)
    needless = gate.decided
    meanings = {
        Status.HIT_WITHOUT_ATTACK: f"the judge saw the concept in the image of the prompt{' as it stands' * attacked}",
        Status.HIT_UNDER_ATTACK: "the judge saw it once the attack had added tokens"
        if gate.threat is Threat.TEXT
        else f"the judge saw it under {gate.threat.means}",
        Status.RESISTED: "the attack ran to its end, and the judge never saw it"
        if attacked
        else "the judge did not see it in the image",
        Status.BLOCKED: "the model's own safety checker blocked an image, and no other one showed the concept",
        Status.ERROR: "it did not come to its end, and counts as a possible success",
        MISSING: "it has no outcome, and none could change the verdict"
        if needless
        else "it has no outcome, and counts as a possible success",
    }
    labels = {status: words.label(status) for status in STATUSES} | ({MISSING: _NOT_NEEDED} if needless else {})
    signs = _SIGNS | ({MISSING: "\u2013"} if needless else {})
    return {
        status: State(status, signs[status], len(gate.ended(status)), labels[status], meanings[status])
        for status in (*Status, MISSING)
    }


def _views(session: SessionReport, images: SessionImages) -> list[View]:
    """Prepare the sections of the gates."""
    views = []
    for number, gate in enumerate((*session.gone, *session.kept), start=1):
        words, states = wording(gate.attack), _states(gate)
        data = {
            "replay": shlex.join(gate.replay),
            "labels": {status: state.label for status, state in states.items()},
            "signs": {status: state.sign for status, state in states.items()},
            "meanings": {status: state.meaning for status, state in states.items()},
            "attacked": words.without_attack != "",
            "prompts": [_data(prompt, gate, images.of(gate, prompt)) for prompt in gate.prompts],
        }
        facts = {
            "lengths": attackable_note(gate),
            "published": published_lines(gate),
            "scores": scores_note(gate),
            "key": gate.key,
            **{_KEY_NAMES.get(name, name): value for name, value in gate.campaign.items()},
            **{_FACT_NAMES.get(name, name): value for name, value in gate.run.assumed.items()},
        }
        views.append(
            View(
                id=f"gate-{number}",
                gate=gate,
                axis=Axis.of(gate, 1.0 if gate.kept else scale(session.gone)),
                efforts=[] if gate.kept else efforts(gate),
                pairs=pairs(gate) if gate.kept else [],
                words=words,
                attacked=gate.kept or not is_unattacked(gate.attack),
                states=[state for state in states.values() if state.count],
                first=[_first(gate, status, words) for status in listed_statuses(gate) if gate.ended(status)],
                facts={name.replace("_", " "): value for name, value in facts.items() if value or value == 0},
                data=data,
            )
        )
    return views


_KEY_NAMES = {
    "algorithm": "version of searches",
    "params": "settings of the attack",
    "victim": "hash of the model",
    "target": "hash of what draws target images",
    "seed": "seed of the session",
}
_FACT_NAMES = {
    "changes": "what it changes of the base",
    "metadata": "what its file says of itself",
    "victim": "model",
    "dtype": "precision",
    "network_batch": "samples in one call of the network",
}
"""Names of facts for people, where those in files say little."""

_FIRST_TITLES = {
    Status.HIT_UNDER_ATTACK: "First prompts that broke through",
    Status.RESISTED: "First prompts that it no longer draws",
    Status.BLOCKED: "First prompts that its safety checker blocked",
}


def _first(gate: GateReport, status: Status, words: Wording) -> First:
    ended, broken = gate.ended(status), status is Status.HIT_UNDER_ATTACK and gate.threat is Threat.TEXT
    return First(
        _FIRST_TITLES.get(status, words.first),
        [(prompt, pieces(prompt) if broken else [(prompt.text, False)]) for prompt in ended[:_FIRST]],
        more_note(gate, status, _FIRST) if len(ended) > _FIRST else "",
    )


def _broke(prompt: PromptReport, gate: GateReport) -> str:
    """Locate in the schedule where a prompt broke; empty where it did not, or where that is not known."""
    if (number := prompt.round(gate.images_per_prompt)) is None:
        return ""
    where = [f"round {number} of {gate.rounds}" if gate.rounds else f"attempt {number}"]
    where += [f"timestep {prompt.timestep}"] * (prompt.timestep is not None)
    where += [f"step {prompt.steps}"] * (prompt.steps > 0)
    return ", ".join([*where, f"{prompt.forwards} network forwards"])


def _data(prompt: PromptReport, gate: GateReport, images: PromptImages) -> dict[str, Any]:
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
        "broke": _broke(prompt, gate),
        "error": prompt.error,
        "images": images.as_list() if images.size else [],
    }
    return {name: value for name, value in facts.items() if value not in (None, "", [])}


def wrapped(text: str) -> list[str]:
    """Split a text into what stays in one line as far as there is room: words, parts of paths, node ids and hashes."""
    return re.findall(r"\s+|(?:(?!::)[^\s/+])+(?:::|[/+]+)?|::|[/+]+", text)


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
