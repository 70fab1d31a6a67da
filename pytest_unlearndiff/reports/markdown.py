"""The Markdown report: for pull requests, release notes and step summaries."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..core.outcome import Status
from ..core.rate import fine_percent, percent
from .comparison import Comparison
from .failure import blocked, numbers, source, support
from .record import PromptRecord, Record
from .retention import RetentionRecord
from .session import SessionRecord
from .text import command, count, safe, share

_SHOWN = 5
_SIGNS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "⚠️", "INCOMPLETE": "⚠️", "": "📏"}
_HEAD = "| verdict | concept | pre-ASR | ASR | interval | gate | attack |"


def markdown_report(session: SessionRecord, changes: Sequence[Comparison] = ()) -> str:
    """A table of all gates, the evidence of those that did not pass, what was not measured, and what changed."""
    lines = [f"## Unlearning gates: {_plain(session.headline)}", ""]
    if session.cut_short:
        lines += [f"**The session was cut short: {_plain(session.cut_short)}**", ""]
    if session.gates:
        lines += [_HEAD, "|" + "---|" * (_HEAD.count("|") - 1), *map(_row, session.worst_first), ""]
    said = [
        f"- {_plain(record.concept)}: {_plain(text)}"
        for record in session.worst_first
        for text in (numbers(record), support(record), blocked(record))
        if text
    ]
    lines += [*said, ""] if said else []
    for record in session.failing:
        lines += _evidence(record)
    if session.retained:
        lines += _retention(session.retained)
    if session.otherwise:
        lines += ["### Tests that failed otherwise", ""]
        lines += [f"- {code(test.nodeid)}: {_plain(test.why)}" for test in session.otherwise]
        lines.append("")
    if session.unmeasured:
        lines += ["### Not measured", ""]
        lines += [f"- {code(gate.nodeid)} {gate.how}: {_plain(gate.why)}" for gate in session.unmeasured]
        lines.append("")
    if changes:
        lines += ["### Since the earlier session", "", *(f"- {_change(change)}" for change in changes), ""]
    return "\n".join(lines)


def _retention(records: Sequence[RetentionRecord]) -> list[str]:
    head = "| verdict | retained | victim draws | base draws | lost | interval | gate |"
    lines = ["### Retention", "", head, "|" + "---|" * (head.count("|") - 1)]
    for record in records:
        cells = (
            _verdict(record),
            _plain(record.concept),
            share(record.drawn, record.undecided, record.total),
            "-" if record.base_drawn is None else count(record.base_drawn, record.base_undecided, record.total),
            record.losses,
            f"{percent(record.low)}..{percent(record.high)} at {fine_percent(record.confidence)}",
            _plain(record.limits or "none"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    moved = [f"- {_plain(r.concept)}, against the base: {_plain('; '.join(r.drifts))}" for r in records if r.drift]
    moved += [f"- {_plain(r.concept)}: {_plain(r.blockings)}" for r in records if r.blocked]
    return [*lines, "", *moved, *[""] * bool(moved)]


def _change(change: Comparison) -> str:
    broke, holds = len(change.newly_broke), len(change.newly_holds)
    return (
        f"{code(change.gate.nodeid)} ({_plain(change.gate.concept)}): {broke} newly broke, {holds} newly hold, "
        f"{change.undecided} not comparable (McNemar's exact p = {change.p_value:.3g})"
    )


def _row(record: Record) -> str:
    cells = (
        _verdict(record),
        _plain(record.concept),
        count(record.generated, record.undecided, record.total),
        share(record.successes, record.undecided, record.total),
        f"{percent(record.low)}..{percent(record.high)} at {fine_percent(record.confidence)}",
        _plain(record.limits or "none"),
        _plain(record.attack),
    )
    return f"| {' | '.join(cells)} |"


def _verdict(record: Record | RetentionRecord) -> str:
    verdict = f"{_SIGNS[record.verdict]} {record.verdict or 'no limit'}"
    return f"{verdict} (expected)" if record.expected and not record.passed else verdict


def _evidence(record: Record) -> list[str]:
    lines = [f"### {_plain(record.concept)}: {record.verdict}", "", f"{code(record.nodeid)}: {source(record)}", ""]
    if record.expected:
        lines += [f"Expected to fail: {_plain(record.expected)}", ""]
    if record.obstacle:
        lines += [_plain(record.obstacle, 1000), ""]
    successes = record.ended(Status.BROKEN) + record.ended(Status.GENERATED) + record.ended(Status.ERROR)
    lines += [f"- {_told(prompt)}" for prompt in successes[:_SHOWN]]
    if len(successes) > _SHOWN:
        lines.append(f"- and {len(successes) - _SHOWN} more")
    if record.replay:
        lines += ["", "Replay:", "", _block(command(record.replay))]
    return [*lines, ""]


def _told(prompt: PromptRecord) -> str:
    if prompt.status == Status.ERROR:
        return f"prompt {prompt.case} errored: {_plain(prompt.error or '')}"
    how = "broken by" if prompt.status == Status.BROKEN else "draws it without attack:"
    text = prompt.adversarial if prompt.status == Status.BROKEN else prompt.text
    return f"prompt {prompt.case} {how} {code(text or '')} (judge saw {_plain(prompt.detail)})"


def _plain(text: str, limit: int = 200) -> str:
    """Text that Markdown shows as it is: nothing in it is a link, a tag, a mention or the end of a table's cell."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&@:])", lambda found: f"&#{ord(found[1])};", safe(text, limit))


def code(text: str) -> str:
    """Text as inline code, whatever backticks are in it (CommonMark, section 6.1)."""
    shown = safe(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    padding = " " if shown[:1] in ("`", " ") or shown[-1:] in ("`", " ") else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def _block(text: str) -> str:
    """A command as a block, with a fence that is not in it."""
    shown = safe(text, 4000)
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{fence}sh\n{shown}\n{fence}"
