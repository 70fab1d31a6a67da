"""The command ``quality``: what an unlearned model has lost in its images of captions that it should keep.

KID and FID of the model's images and of the un-erased model's, both against the same reference: images of the user's,
or the un-erased model's own with other seeds. Images of one caption and seed are much alike, so that a distance between
the two models' themselves would be no estimate of anything.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..core.concept import Prompt, Sampling
from ..core.device import AUTO, PRECISIONS, resolve_precision
from ..core.errors import ModelError
from ..core.images import GenerationRequest
from ..core.prompt_columns import Columns
from ..core.prompt_sets import PromptSource, locate_prompt_set
from ..core.untrusted import MOST_SEED
from ..runs.model_cache import ModelCache
from ..runs.model_spec import ModelSpec, located
from ..sources.download import PromptSetCache
from .command import (
    BASE_HELP,
    Command,
    add_device,
    add_store,
    argument_type,
    check_device,
    load,
    model_path,
    model_paths,
    parse_count,
    parse_path,
)

SUMMARY = "measure by how much KID and FID of a model's images on captions exceed those of the un-erased model"
_LEAST = 2
_OTHER_SEEDS = 2**31
"""Added to a seed for the reference; a CPU's generator reads the lower 32 bits of one."""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@argument_type
def _parse_limit(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number, such as 0.01") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model, its base, the captions, the image model and the limits."""
    parser.add_argument("model", help="pipeline folder, component folder, checkpoint file, Hub id, or pkg.mod:callable")
    parser.add_argument("--base", required=True, help=BASE_HELP)
    parser.add_argument("--captions", required=True, help="prompt set: a file, a URL or a data set on the Hub")
    parser.add_argument("--column", help="column of the captions, where its name does not tell")
    parser.add_argument("--prompts", type=parse_count, help="only the first N captions")
    parser.add_argument("--features", required=True, help="image model whose features are compared: a folder or Hub id")
    parser.add_argument("--steps", type=parse_count, default=50, help="denoising steps (default: %(default)s)")
    parser.add_argument(
        "--reference", type=parse_path, help="folder of images (default: the base's own, with other seeds)"
    )
    parser.add_argument("--max-kid-increase", type=_parse_limit, help="exit with 1 where KID grows by more")
    parser.add_argument("--max-fid-increase", type=_parse_limit, help="exit with 1 where FID grows by more")
    add_store(parser)
    add_device(parser)
    parser.add_argument("--dtype", default=AUTO, choices=PRECISIONS)


def run(arguments: argparse.Namespace) -> int:
    """Draw, compare and print; 1 where a limit is not kept.

    Raises:
        ModelError: an image is none to compare, or there are fewer than two captions.
    """
    check_device(arguments.device)
    base = model_path(arguments.base)
    model, *adapters = model_paths(arguments.model)
    source = PromptSource(locate_prompt_set(arguments.captions, Path()), Columns(arguments.column))
    parsed = source.read(PromptSetCache(arguments.cache_dir))
    captions = [prompt for prompt, _ in parsed.pairs][: arguments.prompts]
    if len(captions) < _LEAST:
        raise ModelError(f"{arguments.captions} has {len(captions)} captions, and at least {_LEAST} are compared")
    dtype = resolve_precision(arguments.dtype, arguments.device)
    victim = ModelSpec(model=model, base=base, adapters=tuple(adapters), device=arguments.device, dtype=dtype)
    with load("models.libraries:silence_libraries")():
        figures = _measure(victim, captions, arguments)
    if parsed.facts.warning:
        print(parsed.facts.warning, file=sys.stderr)
    reference = arguments.reference or "the base's images with other seeds"
    print(f"{len(captions)} captions, against {reference}, features of {arguments.features}")
    limits, exceeded = {"KID": arguments.max_kid_increase, "FID": arguments.max_fid_increase}, []
    for name, (of_model, of_base) in figures.items():
        verdict, limit = "", limits[name]
        if limit is not None:
            exceeded += [name] * (not of_model - of_base <= limit)
            verdict = f": {'FAIL' if name in exceeded else 'PASS'}, limit {limit:g}"
        print(f"{name} {of_model:.4g}, the base's {of_base:.4g}, increase {of_model - of_base:+.4g}{verdict}")
    return 1 if exceeded else 0


def _measure(
    victim: ModelSpec, captions: Sequence[Prompt], arguments: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Return KID and FID, each of the model and of its base."""
    features = load("judges.image_quality:ImageFeatures")
    distance = load("judges.image_quality:image_distance")
    painter = _Painter(captions, arguments.steps, features(arguments.features, located(victim).device))
    base = victim.base_only
    reference = (
        painter.features_of(_images(arguments.reference))
        if arguments.reference is not None
        else painter.draw(base, "the base", other_seeds=True)
    )
    sides = [distance(painter.draw(*side), reference) for side in ((victim, "the model"), (base, "the base"))]
    return {"KID": (sides[0].kid, sides[1].kid), "FID": (sides[0].fid, sides[1].fid)}


def _images(folder: Path) -> list[Any]:
    """Read the images of a folder.

    Raises:
        ModelError: there are fewer than two, or one cannot be read.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    if len(paths) < _LEAST:
        raise ModelError(f"{folder} has {len(paths)} images ({', '.join(_SUFFIXES)}), and at least {_LEAST} are needed")
    return list(map(load("judges.image_quality:read_image"), paths))


class _Painter:
    """Draws captions and computes the images' features.

    Args:
        captions: with seeds and guidance.
        steps: denoising steps.
        features: maps images to features.
    """

    def __init__(self, captions: Sequence[Prompt], steps: int, features: Callable[[list[Any]], Any]) -> None:
        self._captions, self.features_of, self._models = captions, features, ModelCache()
        self._sampling = Sampling(steps, "own")

    def draw(self, spec: ModelSpec, name: str, *, other_seeds: bool = False) -> Any:
        """Return the features of a model's images.

        Raises:
            ModelError: an image is not finite: whatever it were taken for, the distance would mislead.
        """
        added = _OTHER_SEEDS if other_seeds else 0
        requests = [
            GenerationRequest(prompt.text, (prompt.seed + added) % (MOST_SEED + 1), prompt.guidance)
            for prompt in self._captions
        ]
        loaded = self._models.victim(located(spec))
        model = load("models.diffusion_model:DiffusionModel")(loaded.pipe, self._sampling)
        images = model.generate(requests)
        if problems := [image.problem for image in images if image.problem is not None]:
            raise ModelError(f"{len(problems)} of {len(images)} images of {name} cannot be compared: {problems[0]}")
        return self.features_of([image.image for image in images])


COMMANDS = (Command("quality", SUMMARY, add_arguments, run),)
