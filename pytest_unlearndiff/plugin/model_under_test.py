"""The model under test of a gate: its own, the session's, a callable's, or an overridden fixture's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ..core.errors import ModelError
from ..core.versioned_pipeline import split_version
from ..runs.model_cache import ModelSpec
from ..sources.base_guess import guess_base
from ..sources.import_string import is_import_string
from .markers import GateRequest
from .session import SessionState
from .settings import Settings

NO_MODEL = "no model under test: add --unlearndiff-model=PATH (and --unlearndiff-base=PATH for a bare checkpoint)"

_FIXTURE = "unlearned_pipe"
_OWN = f"{__package__}.hooks"


def session_source(settings: Settings) -> ModelSpec:
    """Return the session's own victim."""
    return _source(settings.model, settings.base, settings, settings.model_version or "")


def gate_source(request: GateRequest, settings: Settings) -> ModelSpec:
    """Return the victim a gate names, or else the session's, which is the one that the session's version is of."""
    version = settings.model_version or "" if request.model is None else ""
    return _source(request.model or settings.model, request.base or settings.base, settings, version)


def _source(model: Path | None, base: Path | None, settings: Settings, version: str) -> ModelSpec:
    """Return a victim; where no base is given, with the one its checkpoint is of, if that is on this machine."""
    if base is None and model is not None and (family := guess_base(model)) is not None:
        assumed = str(family)
        return ModelSpec(model, family.folder(), version=version, **settings.loading, assumed=assumed)
    return ModelSpec(model, base, version=version, **settings.loading)


def is_overridden(session: pytest.Session, node: pytest.Item) -> bool:
    """Tell whether a test sees another ``unlearned_pipe`` fixture than the plugin's own."""
    manager = session._fixturemanager  # pytest has no public way to ask which definition a test sees
    definitions = manager.getfixturedefs(_FIXTURE, node) or ()
    return bool(definitions) and definitions[-1].func.__module__ != _OWN


def load_source(request: GateRequest, test: pytest.FixtureRequest, state: SessionState) -> ModelSpec:
    """Return the victim of a running gate, with the pipeline where a fixture or a callable makes it.

    Raises:
        ModelError: what they made is no pipeline, or has two versions.
    """
    settings, node = state.settings, test.node
    if request.model is None and is_overridden(test.session, node):
        source = ModelSpec(base=request.base or settings.base, version=settings.model_version or "")
        name = _fixture_name(test.session, node)
        return _with_pipeline(source, test.getfixturevalue(_FIXTURE), f"the {_FIXTURE} fixture", name, settings)
    if request.model is None and settings.model is None:
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
    device = settings.loading_on(str(pipe.device))
    version_of = name if source.version and not version else ""
    return replace(source, pipe=pipe, version=version or source.version, version_of=version_of, **device)
