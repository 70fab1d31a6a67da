"""Make erased models for comparing attacks, which no attack was tuned on: ``python comparison.py [NAME ...]``.

They go to ``../.comparison``, which is not shipped. Method, object and seed of each were written down before any was
attacked; how hard a method erases is what ``make_all.py`` says for the shipped ones. ``tests/benchmark/compare.py``
attacks them.
"""

from __future__ import annotations

from make_all import AC, ADVUNLEARN, ERASERS, ESD_U, ESD_X, make
from shared import EMOJI, MODEL

COMPARISON = EMOJI / ".comparison"

# No neighbour is spared, unlike in the UCE edits of make_all.py that were picked for having a way in.
UCE = "--preserve-weight 1 --lamb 0.1 --erase-weight 0.2"

VICTIMS: dict[str, tuple[str, str]] = {
    "uce-cat.safetensors": ("uce", f"--concept cat --guide mushroom --seed 11 {UCE}"),
    "uce-guitar.safetensors": ("uce", f"--concept guitar --guide rocket --seed 12 {UCE}"),
    "uce-mushroom.safetensors": ("uce", f"--concept mushroom --guide tree --seed 13 {UCE}"),
    "esd-x-rocket.safetensors": ("esd", f"--concept rocket --seed 14 {ESD_X}"),
    "esd-x-tree.safetensors": ("esd", f"--concept tree --seed 15 {ESD_X}"),
    "esd-u-cat.safetensors": ("esd", f"--concept cat --seed 16 {ESD_U}"),
    "ac-tree": ("ac", f"--concept tree --anchor mushroom --seed 17 {AC}"),
    "ac-guitar": ("ac", f"--concept guitar --anchor rocket --seed 18 {AC}"),
    "advunlearn-rocket": ("advunlearn", f"--concept rocket --erase-from tree --also spaceship --seed 19 {ADVUNLEARN}"),
    "esd-x-twemoji.safetensors": ("esd", f"--concept twemoji --erase-from noto --seed 20 {ESD_X}"),
}


def main() -> None:
    """Make what is missing, one line per victim."""
    make(VICTIMS, ERASERS, model=MODEL, out=COMPARISON)


if __name__ == "__main__":
    main()
