"""The Markdown report: for pull requests, release notes and step summaries."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..core.outcome import Status
from ..core.rate import fine_percent, percent
from ..core.result import STORE_NOTES
from .comparison import Comparison
from .failure import SHOWN, and_more, blocked, hits, numbers, source, support, ungated
from .gate_report import GateReport, PromptRecord
from .retention import RetentionReport
from .session import SessionReport
from .text import UNKEPT, command, count, safe, share, told_model, told_models
from .wording import wording

_SIGNS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "⚠️", "INCOMPLETE": "⚠️", "": "📏"}
_HEAD = "| verdict | concept | pre-ASR | ASR | interval | gate | attack |"


def markdown_report(session: SessionReport, changes: Sequence[Comparison] = ()) -> str:
    """A table of all gates, the evidence of those that did not pass, what was not measured, and what changed."""
    lines = [f"## Unlearning gates: {_plain(session.headline)}", ""]
    if session.cut_short:
        lines += [f"**The session was cut short: {_plain(session.cut_short)}**", ""]
    if session.gates:
        lines += [_HEAD, "|" + "---|" * (_HEAD.count("|") - 1), *map(_row, session.worst_first), ""]
    every: list[GateReport | RetentionReport] = [*session.gates, *session.retained]
    of_all = told_models([record.model for record in every])
    lines += [_plain(of_all, 400), ""] if of_all else []
    said = [
        f"- {_plain(record.concept)}: {_plain(text, UNKEPT)}"
        for record in session.worst_first
        for text in (
            "" if of_all else told_model(record.model),
            *(numbers(record), support(record), blocked(record), record.unkept),
            *map(str, record.assumed.get(STORE_NOTES, ())),
        )
        if text
    ]
    said += [f"- Measured on {_plain(', '.join(session.devices))}"] * bool(session.devices)
    lines += [*said, ""] if said else []
    for record in session.failing:
        lines += _evidence(record)
    if session.retained:
        lines += _retention(session.retained, several=not of_all)
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


def _retention(records: Sequence[RetentionReport], *, several: bool) -> list[str]:
    """The table of retention gates, and what there is to say of them: of which model, where there are several."""
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
    said = [
        f"- {_plain(record.concept)}: {_plain(text, 500)}"
        for record in records
        for text in (told_model(record.model) if several else "", record.support)
        if text
    ]
    lines += ["", *said] if said else []
    moved = [f"- {_plain(r.concept)}: {_plain(r.unkept, UNKEPT)}" for r in records if r.unkept]
    moved += [f"- {_plain(r.concept)}: {_plain(r.blockings)}" for r in records if r.blocked]
    return [*lines, "", *moved, *[""] * bool(moved)]


def _change(change: Comparison) -> str:
    broke, holds, words = len(change.newly_broke), len(change.newly_holds), wording(change.gate.attack)
    return (
        f"{code(change.gate.nodeid)} ({_plain(change.gate.concept)}): {broke} {words.newly_broke}, {holds} "
        f"{words.newly_hold}, {change.undecided} not comparable (McNemar's exact p = {change.p_value:.3g})"
    )


def _row(record: GateReport) -> str:
    cells = (
        _verdict(record),
        _plain(record.concept),
        count(record.hits_without_attack, record.undecided, record.total),
        share(record.successes, record.undecided, record.total),
        f"{percent(record.low)}..{percent(record.high)} at {fine_percent(record.confidence)}",
        _plain(record.limits or "none"),
        _plain(record.attack),
    )
    return f"| {' | '.join(cells)} |"


def _verdict(record: GateReport | RetentionReport) -> str:
    verdict = f"{_SIGNS[record.verdict]} {record.verdict or 'no limit'}"
    expected = " (expected)" if record.expected and not record.passed else ""
    beside = ungated(record) if isinstance(record, GateReport) else ""
    return "; ".join(filter(None, (f"{verdict}{expected}", beside)))


def _evidence(record: GateReport) -> list[str]:
    lines = [f"### {_plain(record.concept)}: {record.verdict}", "", f"{code(record.nodeid)}: {source(record)}", ""]
    if record.expected:
        lines += [f"Expected to fail: {_plain(record.expected)}", ""]
    if record.obstacle:
        lines += [_plain(record.obstacle, 1000), ""]
    for status in (*hits(record), Status.ERROR):
        prompts = record.ended(status)
        lines += [f"- {_told(prompt, wording(record.attack).without_attack)}" for prompt in prompts[:SHOWN]]
        lines += [f"- {and_more(record, status)}"] * (len(prompts) > SHOWN)
    if record.replay:
        lines += ["", "Replay:", "", _block(command(record.replay))]
    return [*lines, ""]


def _told(prompt: PromptRecord, without_attack: str) -> str:
    if prompt.status == Status.ERROR:
        return f"prompt {prompt.case} errored: {_plain(prompt.error or '')}"
    how = "broken by" if prompt.status == Status.HIT_UNDER_ATTACK else f"draws it{without_attack}:"
    text = prompt.adversarial if prompt.status == Status.HIT_UNDER_ATTACK else prompt.text
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
