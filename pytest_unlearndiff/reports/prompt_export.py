"""Adversarial prompts as a list that the attack ``transfer`` replays, and as a prompt set that a concept can name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from .stored_reports import StoredGate

# The first four are those that prompt sets are read by; the rest says where a prompt comes from. Case numbers are new,
# since one prompt may break under several attacks or victims, and a set has every number once.
_COLUMNS = (
    "case_number",
    "prompt",
    "evaluation_seed",
    "evaluation_guidance",
    "concept",
    "attack",
    "original_case",
    "original_prompt",
    "original_seed",
    "inserted",
    "detail",
)


def export(gates: Iterable[StoredGate]) -> tuple[str, int]:
    """Every prompt that drew its concept under attack, each once, as CSV, and how many there are."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    seen: set[tuple[str, str, str]] = set()
    for gate in gates:
        for prompt in gate.prompts:
            attacked = prompt.attacked
            name = gate.concept, prompt.digest, attacked.digest if attacked is not None else ""
            if attacked is None or name in seen:
                continue
            drawn = len(seen), attacked.text, attacked.seed, attacked.guidance
            origin = gate.concept, gate.attack, prompt.case, prompt.text, prompt.seed
            writer.writerow([*drawn, *origin, prompt.inserted or "", prompt.detail])
            seen.add(name)
    return file.getvalue(), len(seen)
