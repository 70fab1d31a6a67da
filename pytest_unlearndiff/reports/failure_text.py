"""The text of a failed gate, and the notes on a gate that several reports share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.attack_config import is_unattacked
from ..core.gate import Verdict
from ..core.info import Threat
from ..core.outcome import HITS, Status
from ..core.rate import Rate, fine_percent, percent
from .gate_report import GateReport
from .gate_report_parts import UPSTREAM_MAX_TOKENS, PromptReport
from .text import UNKEPT, format_count, format_duration, pluralize, sanitize, share_in_words

SHOWN = 5
"""Prompts of each status that are listed."""

REPLAYED = 5
"""Prompts that a replay repeats."""

CASES = "--unlearndiff-case-numbers="

MISTAKE = "a break, or the judge's mistake? Look at them; the guide's page on reports says how to decide"

UNGATED = "nothing gates what this model must keep"


@dataclass(frozen=True)
class Wording:
    """Words for the prompts of one gate; statuses keep their names in files that programs read.

    Attributes:
        done: verb for the prompts.
        labels: statuses as people read them, by status.
        draws: verb phrase of a prompt that draws the concept without attack; holds: of one that never drew it.
        without_attack: tells those prompts from others; empty where there are no others.
        newly_broke: verb of prompts that drew the concept in the later of two sessions alone; one_newly_broke: of one.
        newly_hold: verb of those that drew it in the earlier alone; one_newly_holds: of one.
        both_broke: verb of prompts that drew the concept in both; both_hold: of those that did in neither.
        first: heading of the first prompts that draw the concept without attack.
    """

    done: str
    labels: dict[str, str]
    draws: str
    holds: str
    without_attack: str
    newly_broke: str
    one_newly_broke: str
    newly_hold: str
    one_newly_holds: str
    both_broke: str
    both_hold: str
    first: str

    def label(self, status: str) -> str:
        """Return a status as people read it; empty where no prompt can end so."""
        return self.labels.get(status, status)


_ATTACKED = Wording(
    done="attacked",
    labels={"hit-without-attack": "hit without attack", "hit-under-attack": "hit under attack"},
    draws="draws the concept without attack",
    holds="resisted the attack",
    without_attack=" without attack",
    newly_broke="newly broke",
    one_newly_broke="newly broke",
    newly_hold="newly hold",
    one_newly_holds="newly holds",
    both_broke="break in both",
    both_hold="hold in both",
    first="First prompts that need no attack",
)

_DRAWN = Wording(
    done="drawn",
    labels={"hit-without-attack": "drew it", "hit-under-attack": "", "resisted": "did not draw it"},
    draws="draws the concept",
    holds="did not draw the concept",
    without_attack="",
    newly_broke="newly draw it",
    one_newly_broke="newly draws it",
    newly_hold="no longer draw it",
    one_newly_holds="no longer draws it",
    both_broke="draw it in both",
    both_hold="draw it in neither",
    first="First prompts that draw it",
)


def wording(attack: str) -> Wording:
    """Return the words for prompts under an attack, by its title or name; some only draw."""
    return _DRAWN if is_unattacked(attack) else _ATTACKED


def failure_text(gate: GateReport) -> str:
    """Return counts, interval, the first prompts that speak against the model, and the command that repeats them."""
    return "\n".join([headline(gate), *evidence(gate)])


def headline(gate: GateReport) -> str:
    """Say what is wrong in one line, which begins with what must not be cut: pytest's last line has little room."""
    total, limits = gate.counts.total, gate.limits.text
    share = share_in_words(gate.hits, gate.unknown, total)
    name = sanitize(gate.concept, 60)
    subject = (
        f"retained concept {name!r}: the victim draws {share}" if gate.kept else f"{name}: {gate.threat.rate} {share}"
    )
    obstacle = sanitize(gate.obstacle or "", 1000)
    match gate.verdict:
        case Verdict.FAIL:
            pre = f", pre-ASR {count_without_attack(gate)}" if gate.limits.max_pre_asr is not None else ""
            text = f"{subject}{pre}, gate {limits}"
        case Verdict.INCONCLUSIVE:
            bound = "bound" if gate.kept else "upper bound"
            text = f"{subject} is within the limit, but its {bound} is not: gate {limits}. More prompts may decide it"
        case _:
            if obstacle and (gate.decided or not _missing(gate)):
                return f"{subject}, but {obstacle}"
            figure, why = f"gate {limits}" if limits else "the rate", f". {obstacle}" if obstacle else ""
            whose, _, known = subject.partition(": ")  # a colon alone may belong to a name, as in church:near
            return f"{whose}: {missing_note(gate)}, so {figure} cannot be decided ({known}). Missing is never safe{why}"
    return "; ".join(filter(None, (text, ungated(gate))))


def _missing(gate: GateReport) -> int:
    """Count the images of which nothing is known, those of the base included."""
    return gate.unknown + (gate.base.unknown if gate.base is not None else 0)


def evidence(gate: GateReport, statuses: Sequence[Status] | None = None) -> list[str]:
    """Return the lines below a headline.

    Args:
        gate: the gate.
        statuses: of prompts to list and to repeat; without them, those that speak against the model are repeated, and
            the other hits are listed too.
    """
    low, high = gate.rate.interval
    without = f"{gate.threat.rate_without_attack} {count_without_attack(gate)}"
    detail = base_note(gate) if gate.kept else f"{without}, {sanitize(gate.attack)}"
    interval = f"{fine_percent(gate.limits.confidence)} interval {percent(low)}..{percent(high)}"
    lines = [f"  {interval}, {detail}, {source_note(gate)}"]
    lines += [f"  {sanitize(gate.unkept, UNKEPT)}"] if gate.unkept else []
    for status in (*(statuses or listed_statuses(gate)), Status.ERROR):
        prompts = gate.ended(status)
        lines += [f"  prompt {prompt.case}{_outcome(gate, prompt)}" for prompt in prompts[:SHOWN]]
        lines += [f"  {more_note(gate, status)}"] * (len(prompts) > SHOWN)
    lines += [f"  {note}" for note in (blocked_note(gate),) if note]
    if gate.run.images:
        lines.append(f"  images, not blurred: {sanitize(gate.run.images, 1000)}")
        if gate.ended(Status.HIT_UNDER_ATTACK):
            lines.append(f"  {MISTAKE}")
    if replay := replay_of(gate, statuses or gate.offenders):
        lines.append(f"  replay: {sanitize(shlex.join(replay), 4000)}")
    return lines


def explain_comparison(gate: GateReport | None, op: str, left: object, right: object) -> list[str] | None:
    """Explain a failed assertion in which a rate is compared; None where there is no rate in it.

    Args:
        gate: the gate finished last, whose evidence is shown.
        op: the comparison, such as ``<=``.
        left: its left side.
        right: its right side.
    """
    rate = next((side for side in (left, right) if isinstance(side, Rate)), None)
    if rate is None:
        return None
    if gate is None:
        return [f"{left} {op} {right}"]
    without_attack = rate.successes == gate.counts.hits_without_attack != gate.hits
    counted = (Status.HIT_WITHOUT_ATTACK,) if without_attack else HITS[::-1]
    return [f"{left} {op} {right}", *evidence(gate, gate.offenders if gate.kept else counted)]


def listed_statuses(gate: GateReport) -> tuple[Status, ...]:
    """Statuses whose prompts are listed: those that speak against the model, then other hits."""
    return gate.offenders if gate.kept else tuple(dict.fromkeys((*gate.offenders, *HITS[::-1])))


def replay_of(gate: GateReport, statuses: Sequence[Status]) -> list[str]:
    """Return the command that repeats the first prompts that ended in these ways; empty where there is none."""
    cases = [str(prompt.case) for status in statuses for prompt in gate.ended(status)]
    first = ",".join(cases[:REPLAYED])
    return [f"{CASES}{first}" if part.startswith(CASES) else part for part in gate.replay] if cases else []


def _outcome(gate: GateReport, prompt: PromptReport) -> str:
    """Describe the outcome of a prompt that is listed."""
    if prompt.status == Status.ERROR:
        return f": {sanitize(prompt.error or 'no reason given')}"
    score = "" if prompt.score is None else f", score {prompt.score:.3g}"
    judged = f"(judge saw {sanitize(prompt.detail)}{score})"
    if prompt.status == Status.HIT_UNDER_ATTACK and gate.threat is not Threat.TEXT:
        return f' broken by {gate.threat.means}: "{sanitize(prompt.text)}" {judged}'
    if prompt.status == Status.HIT_UNDER_ATTACK:
        same = not prompt.inserted and prompt.adversarial in (None, prompt.text)
        how = "the same text with another seed: " if same else ""
        return f' broken by {how}"{sanitize(prompt.adversarial or "")}" {judged}'
    verb = "draws it" + wording(gate.attack).without_attack if prompt.hit else "not drawn"
    return f' {verb}: "{sanitize(prompt.text)}" {judged}'


def more_note(gate: GateReport, status: Status, shown: int = SHOWN) -> str:
    """Count the prompts that ended so beside those that are shown: ``and 2 more under attack``."""
    kinds = {
        Status.HIT_UNDER_ATTACK: " under attack",
        Status.HIT_WITHOUT_ATTACK: wording(gate.attack).without_attack,
        Status.ERROR: " that errored",
    }
    return f"and {len(gate.ended(status)) - shown} more{kinds.get(status, ' not drawn')}"


def count_without_attack(gate: GateReport) -> str:
    """Return the count of prompts that draw the concept without attack, as far as it is known."""
    return format_count(gate.counts.hits_without_attack, gate.unknown, gate.counts.total)


def ungated(gate: GateReport) -> str:
    """Say beside a verdict that nothing keeps a destroyed model from it; empty where something does, or may yet."""
    return UNGATED if gate.retention_gated is False else ""


def missing_note(gate: GateReport) -> str:
    """Count prompts that are missing or errored: ``2 of 10 prompts are missing and 1 errored``."""
    if gate.kept:
        return f"{pluralize(_missing(gate), 'image')} {'is' if _missing(gate) == 1 else 'are'} missing or errored"
    counts = gate.counts
    of_all = f"of {pluralize(counts.total, 'prompt')}"
    if not counts.missing:
        return f"{counts.error} {of_all} errored"
    missing = f"{counts.missing} {of_all} {'is' if counts.missing == 1 else 'are'} missing"
    return f"{missing} and {counts.error} errored" if counts.error else missing


def attackable_note(gate: GateReport) -> str:
    """Return N_total and N_attackable, which published tables differ in; empty where the latter is not known."""
    if (attackable := gate.counts.attackable) is None or gate.kept:
        return ""
    total, done = gate.counts.total, wording(gate.attack).done
    longer = f"; the {total - attackable} longer ones are {done} too" if attackable < total else ""
    limit = f"(at most {UPSTREAM_MAX_TOKENS} tokens, as upstream)"
    return f"N_total {total}, N_attackable {attackable} {limit}{longer}"


def blocked_note(gate: GateReport) -> str:
    """Count prompts that ended as blocked; empty where none did."""
    blocked = gate.counts.blocked
    if not blocked:
        return ""
    if gate.kept:
        return f"{pluralize(blocked, 'image')} blocked by the model's own safety checker, which counts as not drawn"
    return (
        f"{blocked} of {pluralize(gate.counts.total, 'prompt')} blocked by the model's own safety checker, and no "
        "image of theirs that it let pass showed the concept"
    )


def base_count(gate: GateReport) -> str:
    """Return the count of prompts that the base draws, as far as it is known; ``-`` without a base."""
    return "-" if gate.base is None else format_count(gate.base.hits, gate.base.unknown, gate.counts.total)


def losses(gate: GateReport) -> str:
    """Return the count of prompts that were lost, as far as it is known; ``-`` without a base."""
    if (base := gate.base) is None:
        return "-"
    return f"{base.lost}..{base.lost + base.lost_unknown}" if base.lost_unknown else str(base.lost)


def base_note(gate: GateReport) -> str:
    """Compare with the base: ``the base draws 10/10, 1 lost``."""
    return "no base to compare with" if gate.base is None else f"the base draws {base_count(gate)}, {losses(gate)} lost"


def scores_note(gate: GateReport) -> str:
    """Compare the judge's mean scores on victim and base; empty where too few are known."""
    if gate.base is None or (scores := gate.base.scores) is None:
        return ""
    low, high = scores.change
    return (
        f"mean score {scores.victim:.3f}, the base's {scores.base:.3f} ({pluralize(scores.pairs, 'pair')}): changed by "
        f"{low:+.3f}..{high:+.3f} at {fine_percent(gate.limits.confidence)}"
    )


def source_note(gate: GateReport) -> str:
    """Say where the outcomes came from, and how many are missing."""
    total, missing, run = gate.counts.total, gate.counts.missing, gate.run
    stored = total - missing - run.fresh
    computed = f" ({run.computed_forwards:,} network forwards computed)" if run.computed_forwards else ""
    parts = [
        (run.fresh, f"{run.fresh} {wording(gate.attack).done} in {format_duration(run.seconds)}{computed}"),
        (stored, f"{'all ' if stored == total else ''}{stored} from the store"),
        (missing, f"{missing} {'not needed' if gate.decided else 'missing'}"),
    ]
    return ", ".join(text for count, text in parts if count)
