"""Make every erased model of ``../flow_erased`` that is not there yet: ``python flow_make_all.py [NAME ...]``."""

from __future__ import annotations

import flow_esd
import flow_lora
import flow_uce
import make_all
from flow_shared import FLOW
from shared import EMOJI

ERASERS = {"esd": flow_esd.main, "lora": flow_lora.main, "uce": flow_uce.main}
# Stands for the empty prompt in the ESD term, which spares the rest, and for the concept in UCE.
GUIDE = "tree"
ESD = f"--method esd-x --steps 200 --lr 2e-4 --negative-guidance 1 --erase-from {GUIDE}"
LORA = f"--steps 140 --lr 1e-3 --preserve-weight 0.3 --erase-from {GUIDE}"
# Edits that spare some of the concept's other names, which are then a way in.
UCE = f"--guide {GUIDE} --preserve-weight 1 --lamb 0.1"

# Name under ../flow_erased: eraser and its options.
VICTIMS: dict[str, tuple[str, str]] = {
    "esd-x-church.safetensors": ("esd", f"--concept church {ESD}"),
    "lora-church.safetensors": ("lora", f"--concept church {LORA}"),
    "uce-church.safetensors": ("uce", f"--concept church {UCE} --erase-weight 0.2 --neighbours 'wedding chapel'"),
    "esd-x-fish.safetensors": ("esd", f"--concept fish {ESD}"),
    "lora-fish.safetensors": ("lora", f"--concept fish {LORA}"),
    "uce-fish.safetensors": ("uce", f"--concept fish {UCE} --erase-weight 0.3 --neighbours angelfish pufferfish"),
}


def main() -> None:
    """Make what is missing, one line per victim."""
    make_all.make(VICTIMS, ERASERS, model=FLOW, out=EMOJI / "flow_erased")


if __name__ == "__main__":
    main()
