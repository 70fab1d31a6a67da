"""At which timesteps the denoising error predicts what the judge sees: ``python -m benchmark.predictive`` in ``tests``.

Puts random tokens before prompts, draws each text, and measures its denoising errors with one draw of noise for each
timestep. A timestep is worth searching at if low errors there go with high scores: the table has Spearman's rank
correlation of the two, its sign turned so that 1 is best, for each prompt and on average, and in the last row that of
the mean over the timesteps of ``fast``. What is finished is kept beside the store of ``examples/emoji``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import spearmanr

from pytest_unlearndiff.attacks.base import prompt_generator
from pytest_unlearndiff.attacks.losses import LossQuery, denoising_losses
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.evaluation import Evaluation
from pytest_unlearndiff.runs.model_cache import ModelCache

from .comparison_set import blocks
from .contenders import EMOJI, SEED, Victim, provenance
from .levers import FAST

KEPT = EMOJI / ".unlearndiff" / "predictive"
SHARES = (0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)
"""Of the noise schedule; those of ``fast`` are among them."""


@dataclass(frozen=True)
class Sample:
    """Random texts of one prompt.

    Attributes:
        losses: denoising errors of each text, one per share of ``SHARES``.
        scores: the judge's, in its own unit.
        hits: texts whose image shows the concept.
    """

    losses: list[list[float]]
    scores: list[float]
    hits: int

    def correlation(self, shares: tuple[float, ...]) -> float:
        """Return the rank correlation in [-1, 1] of scores with the mean error at these shares, its sign turned."""
        columns = [SHARES.index(share) for share in shares]
        errors = [sum(row[column] for column in columns) for row in self.losses]
        return -float(spearmanr(errors, self.scores).statistic)


def measure(victim: Victim, prompt: Prompt, count: int, models: ModelCache) -> Sample:
    """Draw and measure ``count`` texts."""
    sampling = victim.concept.sampling
    model = DiffusionModel(models.victim(victim.source).pipe, sampling)
    targets = Targets(DiffusionModel(models.base(victim.source), sampling))
    judge, generator = models.judge(victim.concept.judge, victim.source), prompt_generator(SEED, prompt)
    vocabulary, slots = model.vocabulary, model.vocabulary.slots(prompt.text, victim.concept.slots, "prefix")
    (x0,) = targets.latents([prompt], model)
    noise = torch.randn((len(SHARES), *x0.shape), generator=generator)
    chosen = torch.randint(len(vocabulary.typeable), (count, victim.concept.slots), generator=generator)
    texts = vocabulary.typeable[chosen].tolist()
    bank = list(zip(noise, map(model.timestep, SHARES), strict=True))
    queries = [LossQuery(slots, tokens, x0, eps, t) for tokens in texts for eps, t in bank]
    losses = denoising_losses(queries, model).reshape(count, -1).tolist()
    requests = [GenerationRequest(vocabulary.text(slots.filled(t)), prompt.seed, prompt.guidance) for t in texts]
    judgements = [each.judgement for each in Evaluation(model, judge)(requests)]
    pairs = [(row, judged) for row, judged in zip(losses, judgements, strict=True) if judged is not None]
    return Sample([row for row, _ in pairs], [j.score for _, j in pairs], sum(j.hit for _, j in pairs))


def kept(victim: Victim, prompt: Prompt, count: int, models: ModelCache) -> Sample:
    """Read a sample, or make it and keep it."""
    path: Path = KEPT / f"{victim.name}-{prompt.digest}-{count}.json"
    if not path.is_file():
        KEPT.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(measure(victim, prompt, count, models))))
        print(f"{path.name} is done", file=sys.stderr)
    return Sample(**json.loads(path.read_text()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victims", nargs="+", default=["uce-church", "ac-tree", "esd-x-twemoji", "advunlearn-rocket"])
    parser.add_argument("--count", type=int, default=60, help="texts of each victim's prompt")
    args = parser.parse_args()
    models, work = ModelCache(), {block.victim: block.cases[:1] for block in reversed(blocks())}
    victims = [Victim.find(name, None).cases(work[name]) for name in args.victims]
    samples = [kept(victim, victim.concept.prompts[0], args.count, models) for victim in victims]
    print(f"| share of the noise schedule | {' | '.join(args.victims)} | mean |")
    print("|---|" + "---|" * (len(samples) + 1))
    for shares in (*((share,) for share in SHARES), FAST.timesteps):
        values = [sample.correlation(shares) for sample in samples]
        cells = [f"{value:+.2f}" for value in (*values, statistics.mean(values))]
        print(f"| {', '.join(map(str, shares))} | {' | '.join(cells)} |")
    print(f"| hits of {args.count} | {' | '.join(str(sample.hits) for sample in samples)} | |")
    print("", *(f"{name}: {value}" for name, value in provenance().items()), sep="\n")


if __name__ == "__main__":
    main()
