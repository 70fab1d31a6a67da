"""Make every erased model of ``../erased`` that is not there yet: ``python make_all.py [NAME ...]``.

How hard a concept is erased is set in the table below: more steps, a higher rate or more negative guidance erase more
and keep less of the rest. To make a victim again, delete it or name it with ``--force``.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import ac
import advunlearn
import esd
import fmn
import uce
from shared import EMOJI, MODEL

ERASED = EMOJI / "erased"
ERASERS = {"esd": esd.main, "uce": uce.main, "ac": ac.main, "fmn": fmn.main, "advunlearn": advunlearn.main}

# One place to turn each method up or down.
ESD_X = "--method esd-x --steps 110 --lr 2e-4 --negative-guidance 1"
ESD_U = "--method esd-u --steps 160 --lr 2e-4 --negative-guidance 1"
UCE = "--erase-weight 0.05 --preserve-weight 1"
# Edits that spare a neighbour of the concept: the class word no longer draws it, its members' names still can.
UCE_NEAR = "--guide tree --preserve-weight 1 --lamb 0.1"
AC = "--steps 150 --lr 2e-4"
FMN = "--steps 35 --lr 1e-4"
ADVUNLEARN = "--steps 120 --lr 3e-4 --inner-steps 2 --gamma 1 --negative-guidance 0.5"

# Name under ERASED: eraser and its options. What the concept turns into (guide, anchor) is a neighbour of its shape.
VICTIMS: dict[str, tuple[str, str]] = {
    "esd-x-church.safetensors": ("esd", f"--concept church {ESD_X}"),
    "esd-u-church.safetensors": ("esd", f"--concept church {ESD_U}"),
    "uce-church.safetensors": ("uce", f"--concept church {UCE_NEAR} --erase-weight 0.2 --neighbours 'wedding chapel'"),
    "ac-church": ("ac", f"--concept church --anchor tree {AC}"),
    "fmn-church": ("fmn", f"--concept church {FMN}"),
    "advunlearn-church": (
        "advunlearn",
        f"--concept church --erase-from tree --also cathedral parish 'wedding chapel' {ADVUNLEARN}",
    ),
    "esd-x-parachute.safetensors": ("esd", f"--concept parachute {ESD_X}"),
    "uce-parachute.safetensors": ("uce", f"--concept parachute --guide rocket {UCE} --lamb 0.4"),
    "ac-parachute": ("ac", f"--concept parachute --anchor rocket {AC}"),
    "advunlearn-parachute": (
        "advunlearn",
        f"--concept parachute --erase-from rocket --also paraglider 'skydiving canopy' {ADVUNLEARN}",
    ),
    "esd-x-fish.safetensors": ("esd", f"--concept fish {ESD_X}"),
    "uce-fish.safetensors": (
        "uce",
        f"--concept fish {UCE_NEAR} --erase-weight 0.2 --neighbours angelfish pufferfish",
    ),
    "ac-fish": ("ac", f"--concept fish --anchor cat {AC}"),
    "advunlearn-fish": (
        "advunlearn",
        f"--concept fish --erase-from cat --also trout angelfish pufferfish {ADVUNLEARN}",
    ),
    "esd-x-truck.safetensors": ("esd", f"--concept truck {ESD_X}"),
    "uce-truck.safetensors": (
        "uce",
        f"--concept truck {UCE_NEAR} --erase-weight 0.16 --neighbours 'delivery van' 'fire engine'",
    ),
    "ac-truck": ("ac", f"--concept truck --anchor rocket {AC}"),
    "advunlearn-truck": (
        "advunlearn",
        f"--concept truck --erase-from rocket --also lorry 'delivery van' 'fire engine' {ADVUNLEARN}",
    ),
    "esd-x-openmoji.safetensors": ("esd", f"--concept openmoji --erase-from noto {ESD_X}"),
    "uce-openmoji.safetensors": ("uce", f"--concept openmoji --guide noto {UCE} --lamb 0.1"),
    "ac-openmoji": ("ac", f"--concept openmoji --anchor noto {AC}"),
}


def done(path: Path) -> bool:
    """Whether a victim is there; a file or folder appears only when it is complete."""
    return path.is_file() or any((path / part).is_file() for part in ("delta.bin", "config.json", "model_index.json"))


def make(
    victims: dict[str, tuple[str, str]], erasers: dict[str, Callable[[list[str]], None]], *, model: Path, out: Path
) -> None:
    """Make those of ``victims`` that are missing; the command line may name some, and other folders."""
    p = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(victims)} (default: all)")
    p.add_argument("--model", type=Path, default=model, help="folder of the base pipeline")
    p.add_argument("--out", type=Path, default=out, help="folder of the victims")
    p.add_argument("--force", action="store_true", help="make those too that exist")
    args = p.parse_args()
    if unknown := set(args.names) - set(victims):
        p.error(f"no such victim: {', '.join(sorted(unknown))}")
    names = args.names or list(victims)
    for number, name in enumerate(names, 1):
        label, out = f"[{number}/{len(names)}] {name}", args.out / name
        if done(out) and not args.force:
            print(label, "exists", flush=True)
            continue
        eraser, options = victims[name]
        start = time.monotonic()
        erasers[eraser]([*shlex.split(options), "--model", str(args.model), "--out", str(out)])
        print(label, f"made in {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    """Make what is missing, one line a victim."""
    make(VICTIMS, ERASERS, model=MODEL, out=ERASED)


if __name__ == "__main__":
    main()
