"""What a failed gate says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from ..core.gate import Gate, Verdict
from ..core.outcome import Status
from ..core.rate import Rate, fine_percent, largest_within, percent
from .gate_report import LONGEST, GateReport, PromptRecord
from .text import UNKEPT, command, count, duration, many, safe, share_in_words
from .wording import wording

SHOWN = 5
"""Prompts of each kind that are listed."""

REPEATED = 5
"""Prompts that a replay repeats."""

CASES = "--unlearndiff-case-numbers="


UNGATED = "nothing gates what this model must keep"


def ungated(record: GateReport) -> str:
    """Said beside the verdict where nothing keeps a destroyed model from it; empty where something does."""
    return UNGATED if record.retention_gated is False else ""


def failure_text(record: GateReport) -> str:
    """Counts, interval, the first broken prompts, and the command that repeats them."""
    decided = record.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)
    headline = "; ".join(filter(None, (_headline(record), ungated(record) if decided else "")))
    return "\n".join([headline, *evidence(record)])


def explain_comparison(record: GateReport | None, op: str, left: object, right: object) -> list[str] | None:
    """Lines for a failed assertion in which a rate is compared, or None where there is no rate in it.

    Args:
        record: the gate finished last, whose evidence is shown.
        op: the comparison, such as ``<=``.
        left: its left side.
        right: its right side.
    """
    rate = next((side for side in (left, right) if isinstance(side, Rate)), None)
    if rate is None:
        return None
    return [f"{left} {op} {right}", *(evidence(record, _counted(record, rate)) if record is not None else [])]


def _counted(record: GateReport, rate: Rate) -> tuple[Status, ...]:
    """How the prompts ended that a rate of a gate counts: those without attack alone, where it is its pre-ASR."""
    pre_asr = rate.successes == record.hits_without_attack != record.successes
    return (Status.HIT_WITHOUT_ATTACK,) if pre_asr else (Status.HIT_UNDER_ATTACK, Status.HIT_WITHOUT_ATTACK)


def _headline(record: GateReport) -> str:
    """What is wrong, in one line that begins with what must not be cut off: pytest's last line has little room."""
    concept = safe(record.concept, 60)
    counts = f"ASR {share_in_words(record.successes, record.undecided, record.total)}"
    match record.verdict:
        case "FAIL":
            pre = f", pre-ASR {_pre_asr(record)}" if record.max_pre_asr is not None else ""
            return f"{concept}: {counts}{pre}, gate {record.limits}"
        case "INCONCLUSIVE":
            return (
                f"{concept}: {counts} is within the limit, but its upper bound is not: gate {record.limits}. "
                "More prompts may decide it"
            )
        case _:
            if record.obstacle and (record.decided or not record.undecided):
                return f"{concept}: {counts}, but {safe(record.obstacle, 1000)}"
            why = f". {safe(record.obstacle, 1000)}" if record.obstacle else ""
            gate = f"gate {record.limits}" if record.limits else "the rate"
            return f"{concept}: {lacking(record)}, so {gate} cannot be decided ({counts}). Missing is never safe{why}"


def lacking(record: GateReport) -> str:
    """How many prompts are missing or errored: ``2 of 10 prompts are missing and 1 errored``."""
    of_all = f"of {many(record.total, 'prompt')}"
    if not record.missing:
        return f"{record.error} {of_all} errored"
    missing = f"{record.missing} {of_all} {'is' if record.missing == 1 else 'are'} missing"
    return f"{missing} and {record.error} errored" if record.error else missing


def evidence(record: GateReport, counted: Sequence[Status] | None = None) -> list[str]:
    """The lines below a headline, with every kind of prompt that the counts above count.

    Args:
        record: the gate.
        counted: how the prompts ended that are to be told and repeated; where it is not given, those that speak against
            the gate are repeated, and the other hits are told too.
    """
    lines = [
        f"  {fine_percent(record.confidence)} interval {percent(record.low)}..{percent(record.high)}, "
        f"pre-ASR {_pre_asr(record)}, {safe(record.attack)}, {source(record)}"
    ]
    lines += [f"  {safe(record.unkept, UNKEPT)}"] * bool(record.unkept)
    for status in counted or hits(record):
        lines += _listed(record, status)
    lines += _listed(record, Status.ERROR)
    if record.blocked:
        lines.append(f"  {blocked(record)}")
    if record.images:
        lines.append(f"  images, not blurred: {safe(record.images, 1000)}")
    if repeated := repeat(record, counted or record.offenders):
        lines.append(f"  replay: {safe(command(repeated), 4000)}")
    return lines


def hits(record: GateReport) -> tuple[Status, ...]:
    """The two ways to count towards ASR, the one that speaks against the gate first."""
    return tuple(dict.fromkeys((*record.offenders, Status.HIT_UNDER_ATTACK, Status.HIT_WITHOUT_ATTACK)))


def repeat(record: GateReport, statuses: Sequence[Status]) -> list[str]:
    """The command that repeats the first prompts that ended in these ways; empty where there is none."""
    cases = ",".join(str(prompt.case) for status in statuses for prompt in record.ended(status))
    first = ",".join(cases.split(",")[:REPEATED])
    return [f"{CASES}{first}" if part.startswith(CASES) else part for part in record.replay] if cases else []


def _pre_asr(record: GateReport) -> str:
    return count(record.hits_without_attack, record.undecided, record.total)


def _listed(record: GateReport, status: Status) -> list[str]:
    """A line for each of the first few prompts that ended so, and how many more there are."""
    tell: dict[Status, Callable[[PromptRecord], str]] = {
        Status.HIT_UNDER_ATTACK: _broken,
        Status.HIT_WITHOUT_ATTACK: lambda prompt: _generated(prompt, wording(record.attack).without_attack),
        Status.ERROR: _errored,
    }
    prompts = record.ended(status)
    lines = [f"  prompt {prompt.case}{tell[status](prompt)}" for prompt in prompts[:SHOWN]]
    return lines + [f"  {and_more(record, status)}"] * (len(prompts) > SHOWN)


def and_more(record: GateReport, status: Status, shown: int = SHOWN) -> str:
    """How many prompts ended so beside those that are shown: ``and 2 more under attack``."""
    kinds = {
        Status.HIT_UNDER_ATTACK: " under attack",
        Status.HIT_WITHOUT_ATTACK: wording(record.attack).without_attack,
        Status.ERROR: " that errored",
    }
    return f"and {len(record.ended(status)) - shown} more{kinds[status]}"


def _broken(prompt: PromptRecord) -> str:
    text = safe(prompt.adversarial or "")
    same = not prompt.inserted and prompt.adversarial in (None, prompt.text)
    quoted = f'the same text with another seed: "{text}"' if same else f'"{text}"'
    return f" broken by {quoted} (judge saw {_seen(prompt)})"


def _generated(prompt: PromptRecord, without_attack: str) -> str:
    return f' draws it{without_attack}: "{safe(prompt.text)}" (judge saw {_seen(prompt)})'


def _errored(prompt: PromptRecord) -> str:
    return f": {safe(prompt.error or 'no reason given')}"


def _seen(prompt: PromptRecord) -> str:
    score = "" if prompt.score is None else f", score {prompt.score:.3g}"
    return f"{safe(prompt.detail)}{score}"


def numbers(record: GateReport) -> str:
    """N_total and N_attackable, which published tables differ in; empty where the latter is not known."""
    if (attackable := record.attackable) is None:
        return ""
    done = wording(record.attack).done
    longer = f"; the {record.total - attackable} longer ones are {done} too" if attackable < record.total else ""
    return f"N_total {record.total}, N_attackable {attackable} (at most {LONGEST} tokens, as upstream){longer}"


def blocked(record: GateReport) -> str:
    """Say how many prompts ended as blocked; empty where none did."""
    if not record.blocked:
        return ""
    return (
        f"{record.blocked} of {many(record.total, 'prompt')} blocked by the model's own safety checker, and no image "
        "of theirs that it let pass showed the concept"
    )


def support(record: GateReport) -> str:
    """How little a pass says, where it says little; else empty."""
    if record.verdict != Verdict.PASS:
        return ""
    unseen = "" if record.control_seen else "without a base, nobody has seen the judge see the concept"
    little = (_also_passes(record, *limit) for limit in (("ASR", record.max_asr), ("pre-ASR", record.max_pre_asr)))
    return "; ".join(filter(None, (unseen, *little)))


def _also_passes(record: GateReport, name: str, text: str | None) -> str:
    """A model above a limit that the gate lets pass one time in five; empty where that is close to the limit."""
    if text is None or record.reading != "point":
        return ""
    limit = Fraction(text)
    if (rate := Gate(limit).also_passes("max_asr", record.total)) is None:
        return ""
    within = largest_within(limit, record.total)
    return (
        f"a limit of {within} of {record.total} also passes a model whose true {name} is {percent(rate)} "
        "one time in five"
    )


def source(record: GateReport) -> str:
    """Where the outcomes came from, and how many there are none of."""
    kept = record.total - record.missing - record.fresh
    computed = f" ({record.computed:,} UNet forwards computed)" if record.computed else ""
    parts = [
        (record.fresh, f"{record.fresh} {wording(record.attack).done} in {duration(record.seconds)}{computed}"),
        (kept, f"{'all ' if kept == record.total else ''}{kept} from the store"),
        (record.missing, f"{record.missing} {'not needed' if record.decided else 'missing'}"),
    ]
    return ", ".join(text for count, text in parts if count)
