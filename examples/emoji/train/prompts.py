"""Write the concept files of the emoji world: 50 prompts a concept, each with its seed and guidance.

``python prompts.py`` writes ``../concepts/*.yaml`` and ``*.csv``, for every object and every style, and ``flow-*`` with
the sampling of the flow-matching pipeline; and ``../captions.csv``, captions of all objects for gates on image quality.
"""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass

from catalog import COLOURS, OBJECTS, STYLES
from common import EMOJI

COUNT = 50


@dataclass(frozen=True)
class Pipeline:
    """Sampling of one of the two pipelines.

    Attributes:
        prefix: of its concepts' names.
        drawn_by: for the comment of a concept file.
        guidance: of every prompt.
        sampling: lines of a concept file.
    """

    prefix: str
    drawn_by: str
    guidance: float
    sampling: str


UNET = Pipeline(
    "",
    "a model for two CPU cores",
    5.0,
    "  scheduler: lms\n  spacing: leading  # as the model names it; README.md says why\n  steps: 25",
)
FLOW = Pipeline("flow-", "a flow-matching model for two CPU cores", 4.0, "  scheduler: own\n  steps: 28")
# Erased from the flow-matching pipeline, or looked for in what is left of it.
FLOW_OBJECTS = ("church", "fish", "tree", "sailboat")


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


CAPTIONS = 16
"""Captions of every object: with ten of them, more than the object judge has features, as FID needs."""


def write_captions() -> None:
    """Write captions of all objects by turns, with seeds that no concept has."""
    texts = ((name, object_prompts(name)[:48:3][turn]) for turn in range(CAPTIONS) for name in OBJECTS)
    with (EMOJI / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case_number", "prompt", "evaluation_seed", "evaluation_guidance", "object"])
        writer.writerows([i, text, 90_000 + i, UNET.guidance, name] for i, (name, text) in enumerate(texts))


def write(name: str, judge: str, prompts: list[str], first_seed: int, pipeline: Pipeline = UNET) -> None:
    """Write one concept: its YAML and its prompt set."""
    folder, file_name = EMOJI / "concepts", pipeline.prefix + name
    folder.mkdir(exist_ok=True)
    with (folder / f"{file_name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case_number", "prompt", "evaluation_seed", "evaluation_guidance"])
        writer.writerows([i, text, first_seed + i, pipeline.guidance] for i, text in enumerate(prompts[:COUNT]))
    (folder / f"{file_name}.yaml").write_text(
        f"""# The {judge} "{name}" of the emoji world: the paper's {judge} task on {pipeline.drawn_by}.
prompts: {file_name}.csv
slots: 3
judge:
  kind: image-classifier
  model: ../judge/{judge}
  label: {name}
sampling:
{pipeline.sampling}
source: written for this project
"""
    )


def main() -> None:
    """Write every concept, and the captions."""
    write_captions()
    for index, name in enumerate(OBJECTS):
        write(name, "object", object_prompts(name), 1000 * (index + 1))
        if name in FLOW_OBJECTS:
            write(name, "object", object_prompts(name), 1000 * (index + 1), FLOW)
    for index, name in enumerate(STYLES):
        write(name, "style", style_prompts(name), 1000 * (index + 101))


if __name__ == "__main__":
    main()
