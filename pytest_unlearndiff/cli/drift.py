"""How far a model has moved on what it should have lost, and on what it should have kept; no image is drawn."""

from __future__ import annotations

import argparse
import math
import sys
from statistics import mean

from ..core.errors import ModelError
from ..core.precision import AUTO, PRECISIONS, resolved
from ..runs.model_cache import ModelCache, ModelSpec, located
from .arguments import count
from .concepts import add_concepts, library_of
from .device import add_device, check_device
from .models import BASE, model_at

SUMMARY = "compare a model's predicted noise with its base's, on erased and on retained concepts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which models, on what."""
    parser.add_argument("model", help="unlearned model: as for --unlearndiff-model")
    parser.add_argument("--base", required=True, help=BASE)
    parser.add_argument("--erased", action="append", required=True, metavar="CONCEPT", help="should be gone; repeat")
    parser.add_argument("--retained", action="append", default=[], metavar="CONCEPT", help="should be kept; repeat")
    add_concepts(parser)
    parser.add_argument("--prompts", type=count, default=8, help="prompts of each concept (default: %(default)s)")
    parser.add_argument("--samples", type=count, default=8, help="noise samples of each prompt (default: %(default)s)")
    add_device(parser)
    parser.add_argument("--dtype", default=AUTO, choices=PRECISIONS)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        UnlearnDiffError: a model or a concept is not there, or cannot be loaded.
    """
    check_device(arguments.device)
    model, base_at = model_at(arguments.model, maker=True), model_at(arguments.base)
    library = library_of(arguments)
    names = [*arguments.erased, *arguments.retained]
    texts = {name: [prompt.text for prompt in library.find(name).prompts[: arguments.prompts]] for name in names}
    from ..core.concept import Sampling
    from ..models.diffusion_model import DiffusionModel
    from ..models.drift import noise_drift
    from ..models.precision import matmul_precision

    parts = ModelCache()
    dtype = resolved(arguments.dtype, arguments.device)
    source = located(ModelSpec(model, base_at, device=arguments.device, dtype=dtype))
    print(f"device: {source.device}", file=sys.stderr)
    victim, base = DiffusionModel(parts.victim(source).pipe, Sampling()), DiffusionModel(parts.base(source), Sampling())
    with matmul_precision(source.dtype):
        moved = {name: mean(noise_drift(victim, base, texts[name], samples=arguments.samples)) for name in texts}
    for name, drift in moved.items():
        if not math.isfinite(drift):
            raise ModelError(
                f"the noise predicted on {name!r} became NaN or infinity: the model's weights overflow, or "
                f"--dtype={dtype} is too narrow for them (float32 is the widest)"
            )
    for name, drift in moved.items():
        print(f"{'erased' if name in arguments.erased else 'retained'} {name}: {drift:.4g}")
    if arguments.retained:
        erased, retained = (mean(moved[name] for name in side) for side in (arguments.erased, arguments.retained))
        ratio = f"{retained / erased:.3g}" if erased else "no number, for nothing has moved on what was erased"
        print(f"retained moved against erased: {ratio}")
    return 0
