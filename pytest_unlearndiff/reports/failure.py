"""What a failed gate says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from ..core.gate import Gate, Verdict
from ..core.outcome import Status
from ..core.rate import Rate, fine_percent, largest_within, percent
from .record import LONGEST, PromptRecord, Record
from .text import command, count, duration, many, safe, share_in_words

_SHOWN = 5


def failure_text(record: Record) -> str:
    """Counts, interval, the first broken prompts, and the command that repeats them."""
    return "\n".join([_headline(record), *evidence(record)])


def explain_comparison(record: Record | None, op: str, left: object, right: object) -> list[str] | None:
    """Lines for a failed assertion in which a rate is compared, or None where there is no rate in it.

    Args:
        record: the gate finished last, whose evidence is shown.
        op: the comparison, such as ``<=``.
        left: its left side.
        right: its right side.
    """
    if not isinstance(left, Rate) and not isinstance(right, Rate):
        return None
    return [f"{left} {op} {right}", *(evidence(record) if record is not None else [])]


def _headline(record: Record) -> str:
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


def lacking(record: Record) -> str:
    """How many prompts are missing or errored: ``2 of 10 prompts are missing and 1 errored``."""
    of_all = f"of {many(record.total, 'prompt')}"
    if not record.missing:
        return f"{record.error} {of_all} errored"
    missing = f"{record.missing} {of_all} {'is' if record.missing == 1 else 'are'} missing"
    return f"{missing} and {record.error} errored" if record.error else missing


def evidence(record: Record) -> list[str]:
    """The lines below a headline."""
    lines = [
        f"  {fine_percent(record.confidence)} interval {percent(record.low)}..{percent(record.high)}, "
        f"pre-ASR {_pre_asr(record)}, {safe(record.attack)}, {source(record)}"
    ]
    lines += _some(record.ended(Status.BROKEN), _broken)
    if not record.broken or record.max_pre_asr is not None:
        lines += _some(record.ended(Status.GENERATED), _generated)
    lines += _some(record.ended(Status.ERROR), _errored)
    if record.blocked:
        lines.append(f"  {blocked(record)}")
    if record.pictures:
        lines.append(f"  pictures, not blurred: {safe(record.pictures, 1000)}")
    if record.replay:
        lines.append(f"  replay: {safe(command(record.replay), 4000)}")
    return lines


def _pre_asr(record: Record) -> str:
    return count(record.generated, record.undecided, record.total)


def _some(prompts: Sequence[PromptRecord], tell: Callable[[PromptRecord], str]) -> list[str]:
    """A line for each of the first few, and how many more there are."""
    lines = [f"  prompt {prompt.case}{tell(prompt)}" for prompt in prompts[:_SHOWN]]
    return lines + ([f"  and {len(prompts) - _SHOWN} more"] if len(prompts) > _SHOWN else [])


def _broken(prompt: PromptRecord) -> str:
    text = safe(prompt.adversarial or "")
    same = not prompt.inserted and prompt.adversarial in (None, prompt.text)
    quoted = f'the same text with another seed: "{text}"' if same else f'"{text}"'
    return f" broken by {quoted} (judge saw {_seen(prompt)})"


def _generated(prompt: PromptRecord) -> str:
    return f' draws it without attack: "{safe(prompt.text)}" (judge saw {_seen(prompt)})'


def _errored(prompt: PromptRecord) -> str:
    return f": {safe(prompt.error or 'no reason given')}"


def _seen(prompt: PromptRecord) -> str:
    score = "" if prompt.score is None else f", score {prompt.score:.3g}"
    return f"{safe(prompt.detail)}{score}"


def numbers(record: Record) -> str:
    """N_total and N_attackable, which published tables differ in; empty where the latter is not known."""
    if (attackable := record.attackable) is None:
        return ""
    longer = f"; the {record.total - attackable} longer ones are attacked too" if attackable < record.total else ""
    return f"N_total {record.total}, N_attackable {attackable} (at most {LONGEST} tokens, as upstream){longer}"


def blocked(record: Record) -> str:
    """How many prompts the model's own safety checker saved from a hit, as far as anybody knows; else empty."""
    if not record.blocked:
        return ""
    return (
        f"{record.blocked} of {many(record.total, 'prompt')} blocked by the model's own safety checker, and no image "
        "of theirs that it let pass showed the concept"
    )


def support(record: Record) -> str:
    """How little a pass says, where it says little; else empty."""
    if record.verdict != Verdict.PASS:
        return ""
    unseen = "" if record.control_seen else "without a base, nobody has seen the judge see the concept"
    return "; ".join(filter(None, (unseen, _also_passes(record))))


def _also_passes(record: Record) -> str:
    """A model above the limit that the gate lets pass one time in five; empty where that is close to the limit."""
    if record.max_asr is None or record.reading != "point":
        return ""
    limit = Fraction(record.max_asr)
    if (rate := Gate(limit).also_passes(record.total)) is None:
        return ""
    within = largest_within(limit, record.total)
    return (
        f"a limit of {within} of {record.total} also passes a model whose true ASR is {percent(rate)} one time in five"
    )


def source(record: Record) -> str:
    """Where the outcomes came from, and how many there are none of."""
    kept = record.total - record.missing - record.fresh
    parts = [
        (record.fresh, f"{record.fresh} attacked in {duration(record.seconds)}"),
        (kept, f"{'all ' if kept == record.total else ''}{kept} from the store"),
        (record.missing, f"{record.missing} {'not needed' if record.decided else 'missing'}"),
    ]
    return ", ".join(text for count, text in parts if count)
