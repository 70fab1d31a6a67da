"""The command ``quality``: what an unlearned model has lost in its images of captions that it should keep.

It draws and measures as gates on image quality do, and shares their outcomes in the store.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ..core.concept import Concept
from ..core.concept_file import ConceptLibrary
from ..core.device import AUTO, PRECISIONS, resolve_precision
from ..core.errors import AttackUnavailable, JudgeError
from ..core.gate import Verdict
from ..core.model_options import split_version
from ..core.quality import LIMITS, NETWORKS, QualityGate, QualityResult, decide_quality
from ..reports.quality_report import OWN_REFERENCE, QualityReport
from ..runs.local_backend import LocalBackend
from ..runs.model_cache import ModelCache
from ..runs.model_spec import Fingerprint, ModelSpec, located
from ..runs.quality import QualityCampaigns, check_support
from ..runs.runner import Runner
from ..sources.download import PromptSetCache
from ..sources.resolve import is_import_string, judge_weights
from ..store.store import Store
from .command import (
    BASE_HELP,
    Command,
    add_device,
    add_store,
    argument_type,
    check_device,
    model_path,
    model_paths,
    parse_count,
    parse_path,
)

SUMMARY = "measure what images of captions have lost: KID, FID and CLIP score beside the un-erased model's"


@argument_type
def _parse_limit(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number, such as 0.01") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model, its base, the captions, the networks and the limits."""
    parser.add_argument("model", help="pipeline folder, component folder, checkpoint file, Hub id, or pkg.mod:callable")
    parser.add_argument("--base", required=True, help=BASE_HELP)
    parser.add_argument("--captions", required=True, help="prompt set: a file, a URL or a data set on the Hub")
    parser.add_argument("--column", help="column of the captions, where its name does not tell")
    parser.add_argument("--prompts", type=parse_count, help="only the first N captions")
    for name, meaning in NETWORKS.items():
        parser.add_argument(f"--{name}", help=meaning)
    parser.add_argument("--steps", type=parse_count, help="denoising steps (default: the model family's)")
    parser.add_argument(
        "--reference", type=parse_path, help="folder of images (default: the base's own, with other seeds)"
    )
    for name, limit in LIMITS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=_parse_limit, metavar="X", help=f"exit with 1 unless {limit.text} X")
    add_store(parser)
    add_device(parser)
    parser.add_argument("--dtype", default=AUTO, choices=PRECISIONS)


def run(arguments: argparse.Namespace) -> int:
    """Draw, compare and print; 1 where a limit is not kept.

    Raises:
        AttackUnavailable: images are missing.
        JudgeError: nothing measures, or there are too few images.
    """
    check_device(arguments.device)
    base = model_path(arguments.base)
    store = Store(arguments.cache_dir)
    models = ModelCache(store.fingerprints)
    model, *adapters = model_paths(arguments.model)
    gate = QualityGate(**{name: getattr(arguments, name) for name in LIMITS})
    concept = _captions(arguments)
    check_support(concept, gate)
    dtype = resolve_precision(arguments.dtype, arguments.device)
    victim = ModelSpec(model=model, base=base, adapters=tuple(adapters), device=arguments.device, dtype=dtype)
    if is_import_string(model):
        pipe, version = split_version(models.made(str(model)))
        victim = replace(victim, pipe=pipe, version=version, device=str(pipe.device))
    family = victim.family
    fitted = concept if family is None else family.concept(concept)
    judge = judge_weights(concept.judge, store.fingerprints)
    campaigns = QualityCampaigns.of(fitted, Fingerprint.of(victim, store.fingerprints), judge, arguments.reference)
    runner = Runner(store, models, LocalBackend(), batch_size=8)
    result = QualityResult.of(
        [
            runner.run(campaign, lambda spec=spec: located(spec))  # type: ignore[misc]
            for campaign, spec in zip(campaigns.all, (victim, victim.base_only, victim.base_only), strict=False)
        ]
    )
    if result.obstacle:
        raise AttackUnavailable(result.obstacle)
    result = replace(result, figures=campaigns.figures(result, store, lambda: located(victim).device))
    return _print(result, gate, concept, arguments)


def _captions(arguments: argparse.Namespace) -> Concept:
    """Read the captions.

    Raises:
        ConceptError: they cannot be read.
        JudgeError: nothing measures.
    """
    measure = {name: value for name in NETWORKS if (value := getattr(arguments, name)) is not None}
    if not measure:
        raise JudgeError("nothing measures the images: give --features, for KID and FID, or --clip, for CLIP scores")
    file = arguments.captions
    entry = file if arguments.column is None else {"file": file, "column": arguments.column}
    sampling = None if arguments.steps is None else {"steps": arguments.steps}
    library = ConceptLibrary([], None, PromptSetCache(arguments.cache_dir))
    concept = library.captions(entry, measure, sampling, Path())
    if warning := concept.prompt_set.warning:
        print(warning, file=sys.stderr)
    return concept.first(arguments.prompts)


def _print(result: QualityResult, gate: QualityGate, concept: Concept, arguments: argparse.Namespace) -> int:
    compared = arguments.features is not None
    reference = (str(arguments.reference) if arguments.reference else OWN_REFERENCE) if compared else None
    report = QualityReport.of(
        result,
        gate,
        "",
        captions=concept.name,
        features=arguments.features,
        clip_model=arguments.clip,
        reference=reference,
    )
    print(f"{len(concept.prompts)} captions")
    for line in report.lines():
        print(line)
    decision = decide_quality(result, gate)
    if gate.limits:
        print(f"{decision.verdict}: {', '.join(filter(None, (str(gate), decision.reason)))}")
    return 0 if decision.verdict is Verdict.PASS else 1


COMMANDS = (Command("quality", SUMMARY, add_arguments, run),)
