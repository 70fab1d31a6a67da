"""The command ``calibrate``: a concept's judge on the un-erased model's own images."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ..core.concept import Concept, Prompt
from ..core.concept_file import BUILT_IN, ConceptLibrary, without_set
from ..core.device import AUTO, PRECISIONS, resolve_precision
from ..core.errors import AttackUnavailable, ConceptError
from ..core.judge_options import on_base
from ..core.outcome import Outcome
from ..core.rate import Rate, percent
from ..core.registry import registry
from ..core.result import MIN_HIT_RATE, Calibration
from ..reports.text import sanitize
from ..runs.local_backend import LocalBackend
from ..runs.model_cache import ModelCache
from ..runs.model_spec import Fingerprint, ModelSpec, located
from ..runs.positive_control import base_campaign
from ..runs.runner import Runner
from ..sources.resolve import judge_weights
from ..store.store import Store
from .command import (
    BASE_HELP,
    Command,
    add_concepts,
    add_device,
    add_store,
    check_device,
    concept_library,
    model_path,
    parse_count,
    parse_path,
)

SUMMARY = "measure a concept's judge on the base model's own images, and keep the result for gates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the concept, the base, and the prompts to judge."""
    parser.add_argument("concept", help="name of the concept")
    parser.add_argument("--base", required=True, help=BASE_HELP)
    add_concepts(parser)
    parser.add_argument("--prompts", type=parse_count, help="only the first N prompts of the concept")
    parser.add_argument(
        "--against",
        action="append",
        help="concept of no hits; repeat (default: all of the same judge model)",
    )
    parser.add_argument(
        "--each", type=parse_count, default=5, help="prompts of each other concept (default: %(default)s)"
    )
    parser.add_argument("--sheet", type=parse_path, help="write a contact sheet of the images here, as PNG")
    add_store(parser)
    parser.add_argument(
        "--batch-size", type=parse_count, default=8, help="prompts drawn together (default: %(default)s)"
    )
    add_device(parser)
    parser.add_argument("--dtype", default=AUTO, choices=PRECISIONS)


def run(arguments: argparse.Namespace) -> int:
    """Generate, judge and print; 0 if the positive control holds, else 1."""
    check_device(arguments.device)
    base = model_path(arguments.base)
    library = concept_library(arguments)
    concept = library.find(arguments.concept).first(arguments.prompts)
    concept = replace(concept, judge=on_base(concept.judge, base))
    others = _others(concept, arguments, library)
    calibrator = _Calibrator(concept, base, arguments)
    calibration = Calibration(calibrator.judge(concept.prompts), calibrator.judge(others), concept.prompts)
    for line in _lines(concept, calibration):
        print(line)
    if arguments.sheet is not None:
        calibrator.write_sheet(
            [*zip(concept.prompts, calibration.own, strict=True), *zip(others, calibration.others, strict=True)]
        )
        print(f"contact sheet: {arguments.sheet}")
    return 1 if calibration.control.fails or not calibration.control.seen else 0


def _others(concept: Concept, arguments: argparse.Namespace, library: ConceptLibrary) -> list[Prompt]:
    """Collect prompts of the given concepts, or of all comparable ones."""
    own_name = without_set(concept.name)
    names = arguments.against or [name for name in library.names() if name != own_name]
    prompts: dict[str, Prompt] = {}
    for name in names:
        try:
            other = library.find(name)
        except ConceptError:
            # Of the built-in ones, some need what is not on this machine; one that was asked for is needed.
            if arguments.against or not (BUILT_IN / f"{name}.yaml").is_file():
                raise
            continue
        if arguments.against or _comparable(concept, other):
            prompts |= {prompt.digest: prompt for prompt in other.prompts[: arguments.each]}
    own = {prompt.digest for prompt in concept.prompts}
    return [prompt for digest, prompt in prompts.items() if digest not in own]


def _comparable(concept: Concept, other: Concept) -> bool:
    """Tell whether another concept excludes this one, as the labels of one judge model do."""
    return concept.judge.options.get("model") in (None, other.judge.options.get("model"))


class _Calibrator:
    """Judges the base's images; outcomes in the store are not computed again.

    Args:
        concept: with its judge.
        base: the un-erased pipeline's folder.
        arguments: the command's.
    """

    def __init__(self, concept: Concept, base: Path, arguments: argparse.Namespace) -> None:
        self._arguments, self._device_told = arguments, False
        self._store = Store(arguments.cache_dir)
        self._parts = ModelCache(self._store.fingerprints)
        dtype = resolve_precision(arguments.dtype, arguments.device)
        self._source = ModelSpec(base=base, device=arguments.device, dtype=dtype)
        self._concept = self._fitted(concept)
        self._base = Fingerprint.of(self._source, self._store.fingerprints).targets_digest
        self._judge = judge_weights(concept.judge, self._store.fingerprints)

    def judge(self, prompts: tuple[Prompt, ...] | list[Prompt]) -> tuple[Outcome | None, ...]:
        """Judge the base's images of these prompts.

        Raises:
            AttackUnavailable: they cannot be drawn.
        """
        if not prompts:
            return ()
        asked = self._fitted(replace(self._concept, prompts=tuple(prompts)))
        campaign = base_campaign(asked, self._base, self._judge)
        runner = Runner(self._store, self._parts, LocalBackend(), batch_size=self._arguments.batch_size)
        result = runner.run(campaign, self._located)
        if result.obstacle:
            raise AttackUnavailable(result.obstacle)
        return result.outcomes

    def _fitted(self, concept: Concept) -> Concept:
        """Return a concept as the family of the base has it."""
        family = self._source.family
        return concept if family is None else family.concept(concept)

    def _located(self) -> ModelSpec:
        """Place the base on its device, which is told once."""
        source = located(self._source)
        if not self._device_told:
            print(f"device: {source.device}", file=sys.stderr)
            self._device_told = True
        return source

    def write_sheet(self, judged: list[tuple[Prompt, Outcome | None]]) -> None:
        """Generate the images again and write them with the judge's answers."""
        from ..core.images import GenerationRequest
        from ..models.diffusion_model import DiffusionModel
        from ..models.generated_images import write_contact_sheet

        base = DiffusionModel(self._parts.base(self._located()), self._concept.sampling)
        drawn = self._fitted(replace(self._concept, prompts=tuple(prompt for prompt, _ in judged))).prompts
        images = base.generate([GenerationRequest(prompt.text, prompt.seed, prompt.guidance) for prompt in drawn])
        captions = [
            f"{'HIT' if outcome is not None and outcome.success else 'no'}: {outcome.detail if outcome else ''}\n"
            f"{sanitize(prompt.text, 40)}"
            for prompt, outcome in judged
        ]
        rendered = [image.image for image in images]
        write_contact_sheet(self._arguments.sheet, list(zip(rendered, captions, strict=True)))


def _lines(concept: Concept, calibration: Calibration) -> list[str]:
    """Describe the measurement."""
    lines = [
        f"concept {concept.name!r}, judge {concept.judge.kind}",
        f"hits on the base model's own images: {_interval(calibration.hits)}",
    ]
    if calibration.others:
        lines.append(f"false hits on prompts of other concepts: {_interval(calibration.false_hits)}")
    if threshold := calibration.suggestion():
        option = next(
            (name for name in ("threshold", "margin") if name in registry().judges[concept.judge.kind].options), None
        )
        lines.append(
            f"scores tell them apart best at {threshold.score:.4g}: {threshold.hits} own and {threshold.false_hits} "
            f"other images reach it{f'; {option} is the option' if option else ''}"
        )
    if not calibration.control.seen:
        reason = next((outcome.error for outcome in calibration.own if outcome is not None and outcome.error), "")
        lines.append("positive control MISSING: none of the base's images could be judged")
        lines += [f"  {sanitize(reason, 300)}"] * bool(reason)
    elif calibration.control.repeated:
        lines.append(f"positive control FAILED: {calibration.control.failure}")
    elif calibration.control.fails:
        lines.append(
            f"positive control FAILED: {percent(MIN_HIT_RATE)} are needed, and gates on {concept.name!r} that would "
            "pass are INCOMPLETE"
        )
    else:
        lines.append(
            f"positive control holds ({percent(MIN_HIT_RATE)} are needed); gates on a model of this base reuse it"
        )
    return lines


def _interval(rate: Rate) -> str:
    low, high = rate.interval()
    return f"{rate}, 95% interval {percent(low)}..{percent(high)}"


COMMANDS = (Command("calibrate", SUMMARY, add_arguments, run),)
