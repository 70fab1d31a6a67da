"""What every training script shares: where things are, resumable checkpoints, the schedule, the figures."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

import torch

EMOJI = Path(__file__).resolve().parent.parent
MODEL = EMOJI / "model"
FLOW = EMOJI / "flow"
JUDGE = EMOJI / "judge"
FIGURES = EMOJI / "train" / "figures.json"


def parser(description: str | None, *, steps: int) -> argparse.ArgumentParser:
    """Options that every training script takes."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--work", type=Path, default=EMOJI / "train" / ".work", help="folder for data and checkpoints")
    p.add_argument("--steps", type=int, default=steps, help="optimiser steps in all")
    p.add_argument("--seed", type=int, default=0, help="seed of weights and data order")
    return p


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random stream of one step, a function of (seed, step) only, so that a resumed run repeats it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def cosine(step: int, total: int, *, warmup: int = 100, floor: float = 0.02) -> float:
    """Learning-rate factor in [0, 1]: linear warm-up, then a cosine down to ``floor``."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill leaves the previous one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The last checkpoint, or None where there is none yet."""
    return torch.load(path, weights_only=True) if path.exists() else None


def forget_paths(folder: Path) -> None:
    """Take out of saved configurations the folder their weights were loaded from, which is nobody else's."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text())
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def record_figures(part: str, figures: dict[str, Any]) -> None:
    """Keep the figures of a training run beside the weights it made."""
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    known[part] = figures
    FIGURES.write_text(json.dumps(known, indent=2) + "\n")
    print(part, json.dumps(figures, indent=2))
