"""The Markdown report: for pull requests, release notes and step summaries."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from ..core.info import Threat
from ..core.outcome import Status
from ..core.rate import fine_percent, percent
from ..core.result import STORE_NOTES
from .comparison import Comparison
from .failure_text import (
    SHOWN,
    attackable_note,
    base_count,
    blocked_note,
    count_without_attack,
    listed_statuses,
    losses,
    more_note,
    scores_note,
    source_note,
    ungated,
    wording,
)
from .gate_report import GateReport, by_threat
from .gate_report_parts import PromptReport
from .overview import untested_notes
from .published import published_lines
from .quality_report import COLUMNS, QualityReport, quality_headline
from .session_report import ReportOptions, SessionReport, UnmeasuredTest
from .text import UNKEPT, format_share, model_line, models_line, sanitize
from .two_sided import two_sided_lines

_SIGNS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "⚠️", "INCOMPLETE": "⚠️", None: "📏"}
_KEPT = ("verdict", "retained", "victim draws", "base draws", "lost", "interval", "gate")


def markdown_report(session: SessionReport, options: ReportOptions) -> str:
    """Return tables of all gates, the evidence of those that did not pass, what was not measured, and what changed."""
    lines = [f"## Unlearning gates: {plain(session.headline)}", ""]
    if session.cut_short:
        lines += [f"**The session was cut short: {plain(session.cut_short)}**", ""]
    for threat, gates in by_threat(session.gone).items():
        rates = threat.rate_without_attack, threat.rate
        lines += [*_table(("verdict", "concept", *rates, "interval", "gate", "attack"), gates), ""]
    lines += ["### Retention", "", *_table(_KEPT, session.kept), ""] if session.kept else []
    lines += quality_table(session.quality)
    both = [f"- {plain(line, 500)}" for line in two_sided_lines(session)]
    lines += ["### Unlearning and retention", "", *both, ""] if both else []
    one_model = models_line([gate.run.victim for gate in session.every])
    lines += [plain(one_model, 400), ""] if one_model else []
    notes = [
        f"- {plain(gate.concept)}: {plain(note, UNKEPT)}"
        for gate in (*session.gone, *session.kept)
        for note in _notes(gate, named_model=not one_model)
        if note
    ]
    notes += [f"- Measured on {plain(', '.join(session.devices))}"] * bool(session.devices)
    lines += [*dict.fromkeys(notes), ""] if notes else []  # gates on one concept may have the same
    untested = [f"- {plain(note, UNKEPT)}" for note in untested_notes(session)]
    lines += ["### Not tested", "", *untested, ""] if untested else []
    for gate in session.failing:
        lines += _evidence(gate)
    for measured in session.failing_quality:
        lines += [f"### {plain(measured.captions)}: {measured.verdict}", "", code(measured.nodeid), ""]
        lines += [plain(quality_headline(measured), 1000), ""]
        lines += [f"- {plain(line)}" for line in measured.lines()] + [""]
    lines += _tests("Tests that failed otherwise", session.failed_otherwise, how=False)
    lines += _tests("Not measured", session.unmeasured, how=True)
    if options.changes:
        lines += ["### Since the earlier session", "", *(f"- {_change(change)}" for change in options.changes), ""]
    return "\n".join(lines)


def _table(columns: Sequence[str], gates: Sequence[GateReport]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for gate in gates:
        share, (low, high) = format_share(gate.hits, gate.unknown, gate.counts.total), gate.rate.interval
        figures = (share, base_count(gate), losses(gate)) if gate.kept else (count_without_attack(gate), share)
        interval = f"{percent(low)}..{percent(high)} at {fine_percent(gate.limits.confidence)}"
        cells = [_verdict(gate), plain(gate.concept), *figures, interval, plain(gate.limits.text or "none")]
        cells += [] if gate.kept else [plain(gate.attack)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def quality_table(gates: Sequence[QualityReport]) -> list[str]:
    """Return the section of gates on image quality; empty without one."""
    if not gates:
        return []
    columns = (*COLUMNS, "gate")
    lines = ["### Image quality", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for gate in gates:
        *cells, verdict = map(plain, gate.cells)
        expected = " (expected)" if gate.expected_failure and not gate.passed else ""
        sign = f"{_SIGNS[gate.verdict]} {verdict}{expected}"
        lines.append(f"| {' | '.join([*cells, sign, plain(gate.limits.text or 'none')])} |")
    notes = (f"- {plain(gate.captions)}: {plain(line)}" for gate in gates for line in gate.lines(captions=False))
    return [*lines, "", *notes, ""]


def _verdict(gate: GateReport) -> str:
    verdict = f"{_SIGNS[gate.verdict]} {gate.verdict or 'no limit'}"
    expected = " (expected)" if gate.expected_failure and not gate.passed else ""
    return "; ".join(filter(None, (f"{verdict}{expected}", ungated(gate))))


def _notes(gate: GateReport, *, named_model: bool) -> Iterator[str]:
    if named_model:
        yield model_line(gate.run.victim)
    yield str(gate.prompt_set)
    yield from (*published_lines(gate), scores_note(gate))
    yield from (attackable_note(gate), blocked_note(gate), gate.unkept or "")
    yield from map(str, gate.run.assumed.get(STORE_NOTES, ()))


def _evidence(gate: GateReport) -> list[str]:
    title = f"{plain(gate.concept)}: {gate.verdict}"
    lines = [f"### {title}", "", f"{code(gate.nodeid)}: {source_note(gate)}", ""]
    if gate.expected_failure:
        lines += [f"Expected to fail: {plain(gate.expected_failure)}", ""]
    if gate.obstacle:
        lines += [plain(gate.obstacle, 1000), ""]
    for status in (*listed_statuses(gate), Status.ERROR):
        prompts = gate.ended(status)
        lines += [f"- {_outcome(gate, prompt)}" for prompt in prompts[:SHOWN]]
        lines += [f"- {more_note(gate, status)}"] * (len(prompts) > SHOWN)
    if gate.replay:
        lines += ["", "Replay:", "", _block(shlex.join(gate.replay))]
    return [*lines, ""]


def _outcome(gate: GateReport, prompt: PromptReport) -> str:
    if prompt.status == Status.ERROR:
        return f"prompt {prompt.case} errored: {plain(prompt.error or '')}"
    how, text = "not drawn:", prompt.text
    if prompt.status == Status.HIT_UNDER_ATTACK:
        how, text = "broken by", prompt.adversarial or ""
        if gate.threat is not Threat.TEXT:
            how, text = f"broken by {gate.threat.means}:", prompt.text
    elif prompt.hit:
        how = f"draws it{wording(gate.attack).without_attack}:"
    return f"prompt {prompt.case} {how} {code(text)} (judge saw {plain(prompt.detail)})"


def _tests(title: str, tests: Sequence[UnmeasuredTest], *, how: bool) -> list[str]:
    lines = [f"- {code(test.nodeid)}{f' {test.how}' if how else ''}: {plain(test.why)}" for test in tests]
    return [f"### {title}", "", *lines, ""] if tests else []


def _change(change: Comparison) -> str:
    broke, holds, words = len(change.newly_broke), len(change.newly_holds), wording(change.gate.attack)
    return (
        f"{code(change.gate.nodeid)} ({plain(change.gate.concept)}): {broke} {words.newly_broke}, {holds} "
        f"{words.newly_hold}, {change.unknown} not comparable (McNemar's exact p = {change.p_value:.3g})"
    )


def plain(text: str, limit: int = 200) -> str:
    """Escape text so that nothing in it is a link, a tag, a mention or the end of a table's cell."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&@:])", lambda match: f"&#{ord(match[1])};", sanitize(text, limit))


def code(text: str) -> str:
    """Return text as inline code, whatever backticks are in it (CommonMark, section 6.1)."""
    clean = sanitize(text)
    fence = "`" * (_longest_backticks(clean) + 1)
    padding = " " if clean[:1] in ("`", " ") or clean[-1:] in ("`", " ") else ""
    return f"{fence}{padding}{clean}{padding}{fence}"


def _block(text: str) -> str:
    """Return a command as a block, with a fence that is not in it."""
    clean = sanitize(text, 4000)
    fence = "`" * max(3, _longest_backticks(clean) + 1)
    return f"{fence}sh\n{clean}\n{fence}"


def _longest_backticks(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
