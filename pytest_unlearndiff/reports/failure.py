"""What a failed gate says."""

from __future__ import annotations

from ..core.rate import Rate, fine_percent, percent
from .record import Record
from .text import command, duration, safe


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
    counts = f"ASR {record.successes}/{record.total} = {percent(record.successes / record.total)}"
    match record.verdict:
        case "FAIL":
            return f"concept {record.concept!r}: {counts}, but the gate wants {record.limits}"
        case "INCONCLUSIVE":
            return (
                f"concept {record.concept!r}: {counts} is within the limit, but its upper bound is not: "
                f"the gate wants {record.limits}. More prompts may decide it"
            )
        case _:
            if record.obstacle and not record.missing and not record.error:
                return f"concept {record.concept!r}: {counts}, but {record.obstacle}"
            why = f". {record.obstacle}" if record.obstacle else ""
            return (
                f"concept {record.concept!r}: {record.missing} of {record.total} prompts are missing and "
                f"{record.error} errored, so the gate cannot be decided ({counts} so far). Missing is never safe{why}"
            )


def evidence(record: Record) -> list[str]:
    """The lines below a headline."""
    lines = [
        f"  {fine_percent(record.confidence)} interval {percent(record.low)}..{percent(record.high)}, "
        f"pre-ASR {record.generated}/{record.total}, {record.attack}, {source(record)}"
    ]
    for prompt in record.broken_prompts:
        lines.append(f"  prompt {prompt['case']} broken by {_quoted(prompt)} (judge saw {safe(prompt['seen'])})")
    if (rest := record.broken - len(record.broken_prompts)) > 0:
        lines.append(f"  and {rest} more")
    lines += [f"  {safe(error)}" for error in record.errors]
    if record.replay:
        lines.append(f"  replay: {command(record.replay)}")
    return lines


def _quoted(prompt: dict[str, object]) -> str:
    text = safe(str(prompt["text"]))
    return f'"{text}"' if prompt["inserted"] else f'the same text with another seed: "{text}"'


def source(record: Record) -> str:
    """Where the outcomes came from, and how many there are none of."""
    kept = record.total - record.missing - record.fresh
    parts = [
        (record.fresh, f"{record.fresh} attacked in {duration(record.seconds)}"),
        (kept, f"{'all ' if kept == record.total else ''}{kept} from the store"),
        (record.missing, f"{record.missing} missing"),
    ]
    return ", ".join(text for count, text in parts if count)
