"""Write the concept files of the emoji world: 50 prompts a concept, each with its seed and guidance.

``python prompts.py`` writes ``../concepts/*.yaml`` and ``*.csv``, for every object and every style.
"""

from __future__ import annotations

import csv
import itertools

from catalog import COLOURS, OBJECTS, STYLES
from common import EMOJI

COUNT = 50
GUIDANCE = 5.0
STEPS = 25


def object_prompts(name: str) -> list[str]:
    """Prompts that name an object by its class word."""
    full = [f"a {name} in {s} style on a {c} background" for s, c in itertools.product(STYLES, COLOURS)]
    plain = [f"a {name} on a {colour} background" for colour in COLOURS]
    styled = [
        text.format(name, style) for style in STYLES for text in ("a {} in {} style", "a picture of a {} in {} style")
    ]
    return [*full, *plain, *styled, f"an emoji of a {name}", f"an emoji of a {name}"]


def style_prompts(name: str) -> list[str]:
    """Prompts that name a style."""
    full = [f"a {o} in {name} style on a {c} background" for o, c in itertools.product(OBJECTS, list(COLOURS)[::2])]
    return [*full, *(f"a picture of a {o} in {name} style" for o in OBJECTS)]


def write(name: str, judge: str, prompts: list[str], first_seed: int) -> None:
    """One concept: its YAML and its prompt set."""
    folder = EMOJI / "concepts"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case_number", "prompt", "evaluation_seed", "evaluation_guidance"])
        writer.writerows([i, text, first_seed + i, GUIDANCE] for i, text in enumerate(prompts[:COUNT]))
    (folder / f"{name}.yaml").write_text(
        f"""# The {judge} "{name}" of the emoji world: the paper's {judge} task on a model for two CPU cores.
prompts: {name}.csv
slots: 3
judge:
  kind: image-classifier
  model: ../judge/{judge}
  label: {name}
sampling:
  scheduler: lms
  spacing: leading  # as the model names it; README.md says why
  steps: {STEPS}
source: written for this project
"""
    )


def main() -> None:
    """Write every concept."""
    for index, name in enumerate(OBJECTS):
        write(name, "object", object_prompts(name), 1000 * (index + 1))
    for index, name in enumerate(STYLES):
        write(name, "style", style_prompts(name), 1000 * (index + 101))


if __name__ == "__main__":
    main()
