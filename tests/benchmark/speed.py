"""CPU time of a network forward pass: ``python -m benchmark.speed`` in ``tests``.

Wall-clock time on a machine that does other work says little, so this takes the processor time of one thread (set
OMP_NUM_THREADS=1): for searching and for drawing, in the literal attack and in batches. From these and the counted
forward passes follows what a prompt costs that resists, and what it would cost if nothing but the network took time. A
second table has what each saving saves, before and now.
"""

from __future__ import annotations

import argparse

import torch

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.store.store import Mode, Store

from .contenders import ATTACKS, EMOJI, SEED, Attacker, Victim, exhaustion, provenance
from .former import HEAD, cpu_seconds, savings
from .literal import BLOCKS, DECAY, RATE, STEPS, Literal, Spent

BATCH = 8
ROWS = 8, 24
"""Samples in a call of the network alone: as an attack's, and as many as are no quicker any more."""


def literal(victim: Victim, attacker: Attacker) -> tuple[float, float]:
    """Seconds per forward pass of searching and of drawing."""
    pipe, base = attacker.parts.victim(victim.source).pipe, attacker.parts.base(victim.source)
    judge = attacker.parts.judge(victim.concept.judge, victim.source)
    sampling = victim.concept.sampling
    attack = Literal(pipe, base, judge, victim.concept.slots, sampling.steps, spacing=sampling.spacing)
    prompt, steps = victim.concept.prompts[0], 10
    x0, generator = attack.target(prompt), torch.Generator().manual_seed(SEED)
    u = torch.full((attack.slots, len(attack.table)), 1 / len(attack.table))
    adam = torch.optim.Adam([u], lr=RATE, weight_decay=DECAY)
    searching = cpu_seconds(lambda: [attack.step(u, adam, prompt, x0, 500, generator) for _ in range(steps)])
    drawing = cpu_seconds(lambda: attack.evaluate(prompt.text, prompt, Spent()))
    return searching / (2 * steps), drawing / victim.image


def batched(victim: Victim, attack: str, attacker: Attacker) -> tuple[float, float]:
    """The same, of an attack on BATCH prompts together."""
    sampling, prompts = victim.concept.sampling, victim.concept.prompts[:BATCH]
    model = DiffusionModel(attacker.parts.victim(victim.source).pipe, sampling)
    judge = attacker.parts.judge(victim.concept.judge, victim.source)
    search = build_attack(ATTACKS[attack], model)
    started = search.start(prompts, Targets(DiffusionModel(attacker.parts.base(victim.source), sampling)), SEED)
    searching = cpu_seconds(lambda: search.advance(started))
    drawings = [GenerationRequest(prompt.text, prompt.seed, prompt.guidance) for prompt in prompts]
    drawing = cpu_seconds(lambda: judge([each.image for each in model.generate(drawings)]))
    return searching / sum(state.forwards for state in started), drawing / (victim.image * len(prompts))


def network(victim: Victim, rows: int, attacker: Attacker) -> float:
    """Seconds per forward pass of the network alone, of so many samples in a call."""
    model = DiffusionModel(attacker.parts.victim(victim.source).pipe, victim.concept.sampling)
    text, t = victim.concept.prompts[0].text, torch.full((rows,), model.timestep(0.5))
    states = model.encode_prompts([text]).tensor("encoder_hidden_states").expand(rows, -1, -1)
    latents = torch.randn(rows, *model.latent_shape, generator=torch.Generator().manual_seed(SEED))

    @torch.no_grad()
    def predict() -> None:
        for _ in range(10):
            model.network(latents, t, encoder_hidden_states=states)

    return min(cpu_seconds(predict) for _ in range(3)) / (10 * rows)


def searched(attack: str) -> int:
    """Forward passes of searching on a prompt that resists."""
    return BLOCKS * 2 * STEPS if attack == "literal" else ATTACKS[attack].forward_passes(0)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victim", default="uce-church", help="a name in erased/")
    parser.add_argument("--times", type=int, default=3, help="runs of each way of the second table")
    parser.add_argument("--attacks", nargs="*", default=["literal", "paper", "fast"], choices=("literal", *ATTACKS))
    args = parser.parse_args()
    victim = Victim.find(args.victim, BATCH)
    attacker = Attacker(Store(EMOJI / ".unlearndiff", Mode.OFF), ModelCache(), BATCH)
    print("| attack | ms/F searching | ms/F drawing | F if it resists | CPU seconds if it resists | of the first |")
    print("|---|---|---|---|---|---|")
    first = None
    for attack in args.attacks:
        search, draw = literal(victim, attacker) if attack == "literal" else batched(victim, attack, attacker)
        total, steps = exhaustion(attack, victim.image), searched(attack)
        seconds = search * steps + draw * (total - steps)
        first = first or seconds
        cells = (attack, f"{1000 * search:.1f}", f"{1000 * draw:.1f}", f"{total:,}", f"{seconds:.0f}")
        print("| " + " | ".join(cells) + f" | {seconds / first:.3f} |")
    for rows in ROWS:
        each, total = network(victim, rows, attacker), exhaustion("fast", victim.image)
        pace = f"{1000 * each:.1f}"
        cells = (f"network alone, {rows} rows", pace, pace, f"{total:,}", f"{each * total:.0f}")
        print("| " + " | ".join(cells) + (f" | {each * total / first:.3f} |" if first else " |  |"))
    print("", HEAD, sep="\n", flush=True)
    model = DiffusionModel(attacker.parts.victim(victim.source).pipe, victim.concept.sampling)
    for saving in savings(model, victim.concept.prompts[:BATCH], times=args.times):
        print(saving, flush=True)
    print("", *(f"{name}: {value}" for name, value in provenance().items()), sep="\n")


if __name__ == "__main__":
    main()
