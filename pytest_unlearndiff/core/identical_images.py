"""Images that are the same although neither their prompts nor their seeds are: the model ignores both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from .concept import Prompt

_SHOWN = 10


def repeated_cases(images: Iterable[tuple[Prompt, str | None]]) -> tuple[int, ...]:
    """Find prompts that differ in text and in seed and whose images are the same.

    Args:
        images: prompts with the digests of their images, None where there is none to compare.

    Returns:
        Their case numbers, in ascending order.
    """
    same: dict[str, list[Prompt]] = defaultdict(list)
    for prompt, image in images:
        if image is not None:
            same[image].append(prompt)
    cases = (
        prompt.case
        for prompts in same.values()
        if len(prompts) > 1
        for prompt in prompts
        if any(_differ(prompt, other) for other in prompts)
    )
    return tuple(sorted(cases))


def may_repeat(prompts: Sequence[Prompt], missing: Sequence[bool]) -> bool:
    """Tell whether the image of a prompt that is missing may be found to repeat another one's.

    Args:
        prompts: the whole set.
        missing: whether each of them is missing.
    """
    # Asked after every round of an attack, so that what is seldom so comes first; and pairs that all share a text or a
    # seed would take the square of their number.
    if not any(missing) or len({prompt.text for prompt in prompts}) < 2 or len({prompt.seed for prompt in prompts}) < 2:
        return False
    return any(
        lacks and any(_differ(prompt, other) for other in prompts)
        for prompt, lacks in zip(prompts, missing, strict=True)
    )


def same_image(cases: Sequence[int]) -> str:
    """Say which prompts have the same image."""
    shown = ", ".join(map(str, cases[:_SHOWN])) + (f" and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else "")
    return f"draws the same image for different prompts and seeds (cases {shown})"


def _differ(one: Prompt, other: Prompt) -> bool:
    return one.text != other.text and one.seed != other.seed
