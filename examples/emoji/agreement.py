"""How often the un-erased model, as a judge of its own images, agrees with the trained classifier.

``python agreement.py`` draws ``--each`` images of every object with the first prompts of its concept, asks the
classifier and the diffusion classifier (judge ``diffusion-classifier``: ten texts compared) what is in each, and prints
how often both name the same object.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pytest_unlearndiff.core.concept import JudgeConfig, Sampling
from pytest_unlearndiff.core.concept_file import ConceptLibrary
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.rate import Rate, percent
from pytest_unlearndiff.judges.base import build_judge
from pytest_unlearndiff.judges.diffusion_classifier import DiffusionClassifier
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

EMOJI = Path(__file__).resolve().parent
sys.path.insert(0, str(EMOJI / "train"))


def main() -> None:
    """Draw, ask both, and print."""
    from catalog import OBJECTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=4, help="images of every object")
    args = parser.parse_args()
    words, library = list(OBJECTS), ConceptLibrary([EMOJI / "concepts"])
    prompts = [prompt for word in words for prompt in library.find(word).prompts[: args.each]]
    base = DiffusionModel(load_pipeline(EMOJI / "model"), Sampling(25, spacing="leading"))
    drawn = base.generate([GenerationRequest(prompt.text, prompt.seed, prompt.guidance) for prompt in prompts])
    images = [each.image for each in drawn]
    options = {"model": str(EMOJI / "judge" / "object"), "label": words[0]}
    trained = build_judge(JudgeConfig("image-classifier", options), "cpu")(images)
    itself = DiffusionClassifier(base, words[0], words[1:])(images)
    named = [(left.detail.split()[0], right.detail.split()[0]) for left, right in zip(trained, itself, strict=True)]
    agreed = Rate(sum(left == right for left, right in named), len(named))
    low, high = agreed.interval()
    print(f"both name the same object in {agreed} images, 95% interval {percent(low)}..{percent(high)}")
    for prompt, (left, right) in zip(prompts, named, strict=True):
        if left != right:
            print(f"  {prompt.text}: classifier {left}, diffusion classifier {right}")


if __name__ == "__main__":
    main()
