"""The model under test of a gate: its own, the session's, a callable's or a fixture's; and checks of its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ..core.attack_config import AttackConfig
from ..core.concept import Concept
from ..core.device import resolve_precision
from ..core.errors import ModelError, UnlearnDiffError
from ..core.model_options import split_version
from ..runs.model_spec import ModelSpec
from ..sources.base_guess import base_request, guess_base, misfit
from ..sources.model_header import INDEX, inspect_model, no_checkpoint, token_limit
from ..sources.resolve import is_import_string, judge_problem
from .quality_marker import QualityRequest
from .requests import MARKERS, Request, request_of
from .session import SessionState
from .settings import Settings

NO_MODEL = "no model under test: add --unlearndiff-model=PATH (and --unlearndiff-base=PATH for a bare checkpoint)"

NO_QUALITY_BASE = "image quality is compared with the un-erased model's: give it with --unlearndiff-base, or as base="

_FIXTURE = "unlearned_pipe"
_OWN = f"{__package__}.hooks"


def session_source(settings: Settings) -> ModelSpec:
    """Return the session's own victim."""
    return _source(settings.model, settings.base, settings, settings.model_version or "")


def gate_source(request: Request, settings: Settings) -> ModelSpec:
    """Return the victim a gate names, or else the session's, which is the one that the session's version is of."""
    version = "" if request.model else settings.model_version or ""
    return _source(request.model or settings.model, request.base or settings.base, settings, version)


def _source(models: Sequence[Path], base: Path | None, settings: Settings, version: str) -> ModelSpec:
    """Return a victim; where no base is given, with the one its checkpoint is of, if that is on this machine."""
    assumed = ""
    if base is None and (family := next(filter(None, map(guess_base, models)), None)) is not None:
        base, assumed = family.folder(), str(family)
    return ModelSpec(
        next(iter(models), None),
        base,
        adapters=tuple(models[1:]),
        version=version,
        device=settings.device,
        dtype=resolve_precision(settings.dtype, settings.device),
        compiled=settings.compile,
        trust_pickle=settings.trust_pickle,
        partial=settings.partial,
        defenses=settings.defenses,
        safety_checker=settings.safety_checker,
        assumed=assumed,
    )


def is_overridden(session: pytest.Session, node: pytest.Item) -> bool:
    """Tell whether a test sees another ``unlearned_pipe`` fixture than the plugin's own."""
    manager = session._fixturemanager  # pytest has no public way to ask which definition a test sees
    definitions = manager.getfixturedefs(_FIXTURE, node) or ()
    return bool(definitions) and definitions[-1].func.__module__ != _OWN


def load_source(request: Request, test: pytest.FixtureRequest, state: SessionState) -> ModelSpec:
    """Return the victim of a running gate, with the pipeline where a fixture or a callable makes it.

    Raises:
        ModelError: what they made is no pipeline, or has two versions.
    """
    settings, node = state.settings, test.node
    if not request.model and is_overridden(test.session, node):
        source = _source((), request.base or settings.base, settings, settings.model_version or "")
        name = _fixture_name(test.session, node)
        return _with_pipeline(source, test.getfixturevalue(_FIXTURE), f"the {_FIXTURE} fixture", name, settings)
    if not request.model and not settings.model:
        pytest.skip(NO_MODEL)
    source = gate_source(request, settings)
    if is_import_string(source.model):
        name = str(source.model)
        return _with_pipeline(source, state.models.made(name), name, name, settings)
    return source


def _fixture_name(session: pytest.Session, node: Any) -> str:
    """Name the ``unlearned_pipe`` of a test: another folder's, or another parameter's, may be another pipeline."""
    definitions = session._fixturemanager.getfixturedefs(_FIXTURE, node)
    folder = (definitions[-1].baseid if definitions else "") or "."
    parameters = getattr(node, "callspec", None)
    return f"{_FIXTURE} of {folder}" + (f" [{parameters.id}]" if parameters is not None else "")


def _with_pipeline(source: ModelSpec, made: Any, maker: str, name: str, settings: Settings) -> ModelSpec:
    """Return a victim whose pipeline a user made, with the other models on its device.

    Args:
        source: where the rest comes from, and the session's version of it.
        made: the pipeline, perhaps with a version of its own.
        maker: for people.
        name: tells this pipeline from others that the session's version may be of.
        settings: the session's.

    Raises:
        ModelError: it is on no device, and so no pipeline; or it has two versions.
    """
    pipe, version = split_version(made)
    if not hasattr(pipe, "device"):
        raise ModelError(
            f"{maker} gave {pipe!r:.80}, which is no pipeline: return a StableDiffusionPipeline or "
            "StableDiffusionXLPipeline, or one of them as pytest_unlearndiff.VersionedPipeline(pipe, 'TEXT')"
        )
    if version and source.version not in ("", version):
        raise ModelError(
            f"{maker} gave a pipeline of version {version!r}, and --unlearndiff-model-version says "
            f"{source.version!r}: give one of them"
        )
    device = str(getattr(pipe, "_execution_device", pipe.device))  # weights that it offloads are on the CPU now
    version_of = name if source.version and not version else ""
    return replace(
        source,
        pipe=pipe,
        version=version or source.version,
        version_of=version_of,
        device=device,
        dtype=resolve_precision(settings.dtype, device),
    )


def fitted(request: Request, source: ModelSpec) -> tuple[Concept, AttackConfig]:
    """Return a gate's concept and attack as the family of its victim has them.

    Raises:
        UnlearnDiffError: they, or the session's defenses, do not go with the family.
    """
    family = source.family
    if family is None:
        return request.concept, request.attack
    family.check_defenses(defense.name for defense in source.defenses)
    return family.concept(request.concept), family.attack(request.attack)


def _problems_of_files(request: Request, item: pytest.Item, state: SessionState) -> Iterator[str]:
    """Yield why a collected gate cannot be run on its model; nothing where only loading it can tell."""
    if problem := judge_problem(request.concept.judge):
        yield problem
    if not request.model and is_overridden(item.session, item):
        return
    models, base = request.model or state.settings.model, request.base or state.settings.base
    if not models or is_import_string(models[0]):
        return
    for model in models:
        yield from _no_model(model)
    for path in (path for path in models[1:] if (path / INDEX).is_file()):
        yield f"the model {path} is a whole pipeline, which takes nothing of what stands before it: name it first"
    problems = [*_no_base(models[0], base)]
    yield from problems
    source = gate_source(request, state.settings)
    if isinstance(request, QualityRequest) and source.base is None and not problems:
        yield NO_QUALITY_BASE
    yield from _no_room(request.attack, models[0], base)
    yield from _other_base(models, base)
    try:
        fitted(request, source)
    except UnlearnDiffError as error:
        yield str(error)


def _no_model(model: Path) -> Iterator[str]:
    try:
        if not inspect_model(model).is_model:
            absent = f"is a folder without {INDEX}, and there is no other model in it"
            yield f"the model {model} {absent if model.is_dir() else no_checkpoint(model)}"
    except OSError as error:
        yield f"the model {model} cannot be read: {error}"


def _no_base(model: Path, base: Path | None) -> Iterator[str]:
    if base is not None:
        if not (base / INDEX).is_file():
            problem = f"it has no {INDEX}" if base.is_dir() else "it is a file"
            yield f"the base {base} is no pipeline folder: {problem}"
        return
    with suppress(OSError):  # which is a problem of the model's
        if inspect_model(model).needs_base and ((guess := guess_base(model)) is None or guess.folder() is None):
            yield f"the model {model} is a part of a pipeline: {base_request(model)}"


def _other_base(models: Sequence[Path], base: Path | None) -> Iterator[str]:
    for model in models if base is not None else ():
        with suppress(OSError):  # as above
            if base is not None and (difference := misfit(model, base)):
                yield f"the model {model} does not go with the base {base}: {difference}"


def _no_room(attack: AttackConfig, model: Path, base: Path | None) -> Iterator[str]:
    lengths = (token_limit(folder) for folder in (model, base) if folder is not None)
    length = next((length for length in lengths if length is not None), None)
    if length is not None and attack.info.uses_slots and attack.slots > length - 2:
        yield f"slots={attack.slots} do not fit: the model's tokenizer takes {length - 2} tokens beside begin and end"


def check_gates(item: pytest.Item, state: SessionState) -> Iterator[str]:
    """Yield the problems of a collected test's markers."""
    for marker in MARKERS.values():
        marks = [*item.iter_markers(marker.name)][::-1]
        # A class's or a module's is overridden on purpose; of two on one test, one would be lost without a word.
        stacked = sum(own.name == marker.name for own in item.own_markers)
        if stacked > 1 and not marker.several:
            yield (
                f"{item.nodeid}: has {stacked} {marker.name} markers, of which only one would count: write a test for "
                f"each gate, or call {marker.fixture}() for each"
            )
            continue
        problems: list[str] = []
        for mark in marks if marker.several else marks[-1:]:
            try:
                request = request_of(mark, item, state.settings, state.library(item.path.parent))
                problems += _problems_of_files(request, item, state)
            except UnlearnDiffError as error:
                problems += str(error).split("\n")
        if marks and marker.fixture not in getattr(item, "fixturenames", ()) and (marker.several or not problems):
            problems.append(f"has an {marker.name} marker but never asks for the {marker.fixture} fixture")
        yield from (f"{item.nodeid}: {problem}" for problem in problems)
