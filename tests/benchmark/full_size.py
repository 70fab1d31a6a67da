"""The attack at Stable Diffusion 1.4's size on a CPU: ``python -m benchmark.full_size`` in ``tests``.

Builds a pipeline of that shape with random weights, and prints the time of attack steps, literal and in batches, of a
short evaluation, and the peak of memory. The target latent is random too: nothing here says how well an attack does.
``benchmark.gpu`` measures more, where there is a GPU.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import TypeVar, cast

import torch

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.unlearndiff import SimplexAttack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt, Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.device import BATCH, halve_batches
from pytest_unlearndiff.models.diffusion_model import DiffusionModel

from .contenders import provenance
from .literal import DECAY, RATE, Literal
from .random_weights import RandomTargets, build

T = TypeVar("T")
PROMPT = Prompt("a photo of a church on a hill", 0, 7.5, 0)


def timed(what: str, work: Callable[[], T]) -> T:
    """Do it, and print how long it took and how much memory this process has had at most."""
    wall, cpu = time.monotonic(), time.process_time()
    result = work()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {what} | {wall:.1f} | {cpu:.1f} | {peak:.1f} |", flush=True)
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1, choices=(1, 2, 4), help="samples in one call of a network")
    parser.add_argument("--steps", type=int, default=2, help="attack steps, and LMS steps of the evaluation")
    args = parser.parse_args()
    for _ in range({4: 0, 2: 1, 1: 2}[args.batch]):
        assert halve_batches(), BATCH
    print("| what | seconds | CPU seconds | GiB at most so far |", "|---|---|---|---|", sep="\n")
    pipe = timed("build the pipeline", lambda: build("sd14", "float32", "cpu"))
    victim = DiffusionModel(pipe, Sampling(steps=args.steps))
    literal = Literal(pipe, pipe, lambda images: [], 5, args.steps)
    (state,) = RandomTargets(None).latents([PROMPT], victim)[:, None]
    u = torch.full((5, len(literal.table)), 1 / len(literal.table))
    adam = torch.optim.Adam([u], lr=RATE, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(0)
    for n in range(args.steps):
        timed(f"literal step {n + 1}", lambda: literal.step(u, adam, PROMPT, state, 500, generator))
    search = cast(SimplexAttack, build_attack(AttackConfig(schedule="paper", slots=5), victim))
    states = search.start([PROMPT] * args.batch, RandomTargets(None), 0)
    for n in range(args.steps):
        timed(f"step {n + 1} of {args.batch} prompts", lambda: search._step(states))
    drawing = GenerationRequest(PROMPT.text, PROMPT.seed, PROMPT.guidance)
    timed(f"evaluation of {args.steps} LMS steps", lambda: victim.generate([drawing]))
    print(f"vocabulary: {len(pipe.tokenizer):,}, typeable: {len(victim.vocabulary.typeable):,}")
    print(*(f"{name}: {value}" for name, value in provenance().items()), sep="\n")


if __name__ == "__main__":
    main()
