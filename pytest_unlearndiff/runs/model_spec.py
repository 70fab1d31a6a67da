"""Specification of a model under test, before anything is loaded, and the fingerprint of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.device import AUTO, WEIGHTS, foreseen, resolve_precision
from ..core.errors import join_reasons
from ..core.family_fit import ModelFamily
from ..core.model_options import DefenseConfig, describe_defenses
from ..core.registry import code_versions
from ..models.families.lookup import family_named, family_of_class
from ..sources.download import source_url
from ..sources.model_header import INDEX, inspect_model, possible_formats
from ..store.key import Fingerprints, digest
from .model_family import family_of_folders, family_of_object


@dataclass(frozen=True)
class ModelSpec:
    """Files, pipeline object and settings of a victim.

    Attributes:
        model: pipeline folder, component folder or checkpoint file; None if ``pipe`` is given, or if the un-erased
            base itself is the victim.
        base: the un-erased pipeline's folder, for what a checkpoint lacks and for target images.
        pipe: a pipeline of the user's own, instead of ``model``, or made by the callable that ``model`` names.
        version: the user's version of all that acts on the victim at inference; empty for none.
        version_of: maker of the pipeline, if ``version`` is its maker's; else empty.
        device: such as ``cpu`` or ``cuda``; ``auto`` until the models are loaded, see ``located``.
        dtype: name of the arithmetic, one of ``core.device.WEIGHTS``.
        compiled: have torch compile the networks; like the device, not part of the key.
        trust_pickle: read pickles that name more than tensors; they are never executed.
        partial: accept a checkpoint that lacks tensors without a pattern.
        defenses: inference-time erasers.
        safety_checker: have images pass the pipeline's own safety checker before the judge sees them.
        assumed: reason for this base, if it was guessed.
        adapters: further checkpoints, put into the victim in this order.
    """

    model: Path | None = None
    base: Path | None = None
    pipe: Any = None
    version: str = ""
    version_of: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    compiled: bool = False
    trust_pickle: bool = False
    partial: bool = False
    defenses: tuple[DefenseConfig, ...] = ()
    safety_checker: bool = False
    assumed: str = ""
    adapters: tuple[Path, ...] = ()

    @property
    def base_only(self) -> ModelSpec:
        """The un-erased base as a victim, without erasers."""
        plain = replace(self, model=None, adapters=(), pipe=None, version="", version_of="", assumed="")
        return replace(plain, defenses=(), safety_checker=False)

    def on(self, device: str) -> ModelSpec:
        """Return the same on another device, in that device's arithmetic."""
        return replace(self, device=device, dtype=resolve_precision(self.dtype, device))

    @property
    def family(self) -> ModelFamily | None:
        """Family of the victim; None where only loading it can tell."""
        return family_of_object(self.pipe) if self.pipe is not None else family_of_folders(self.model, self.base)

    @property
    def inference_edits(self) -> str:
        """Defences and safety checker in words, for reports and keys; empty for none."""
        checked = "its own safety checker" if self.safety_checker else ""
        return " and ".join(filter(None, (describe_defenses(self.defenses), checked)))

    @property
    def base_label(self) -> str:
        """Name of the base for people; empty for none."""
        if self.base is None:
            return ""
        return source_url(self.base) + (" (guessed)" if self.assumed else "")

    @property
    def label(self) -> str:
        """Name of the victim for people."""
        if self.pipe is not None:
            return f"the {type(self.pipe).__name__} of {self.model or 'unlearned_pipe'}"
        if self.model is None:
            return f"the base {self.base and source_url(self.base)}"
        return " with ".join(source_url(path) for path in (self.model, *self.adapters))


@dataclass(frozen=True)
class Fingerprint:
    """Content hashes of a victim, known before it is loaded.

    Attributes:
        victim: of its weights and, as far as they can be hashed, of edits at inference.
        targets_digest: of the source of target images; empty without one.
        unhashed: edits at inference that cannot be hashed, such as hooks.
        version: the user's version of those; empty for none.
    """

    victim: str
    targets_digest: str
    unhashed: tuple[str, ...] = ()
    version: str = ""

    @property
    def complete(self) -> bool:
        """True if victims of this fingerprint draw the same, so that outcomes may be kept under it."""
        return not self.unhashed or bool(self.version)

    @property
    def unkept(self) -> str:
        """Reason why outcomes of the victim are not kept, and the remedy; empty if they are."""
        if self.complete:
            return ""
        return (
            "outcomes of this pipeline are neither kept nor answered from the store, because no hash stands for "
            f"{join_reasons(self.unhashed)}: give it a version, which becomes part of the key, with "
            "--unlearndiff-model-version=TEXT, or let what makes it return "
            "pytest_unlearndiff.VersionedPipeline(pipe, 'TEXT')"
        )

    @classmethod
    def of(cls, source: ModelSpec, fingerprints: Fingerprints, images: Mapping[str, str] | None = None) -> Fingerprint:
        """Hash files or, of a pipeline object, tensors.

        Args:
            source: the victim.
            fingerprints: hashes files.
            images: paths of the user's target images, as ``Concept.images`` has them.

        Raises:
            StoreError: a path leads nowhere.
        """
        plain = cls._of_weights(source, fingerprints)
        if not images:
            return plain
        # Of the whole set, so that some of its prompts and all of them share their outcomes.
        hashed = digest({prompt: fingerprints.of(Path(path)) for prompt, path in images.items()})
        base = f" and {plain.targets_digest}" if source.base is not None else ""
        return replace(plain, targets_digest=f"images {hashed}{base}")

    @classmethod
    def _of_weights(cls, source: ModelSpec, fingerprints: Fingerprints) -> Fingerprint:
        """Hash victim and base, which draws the target images."""
        edits = f" with {source.inference_edits}" if source.inference_edits else ""
        if source.version:
            maker = f" of {source.version_of}" if source.version_of else ""
            edits = f" in version {source.version!r}{maker}{edits}"
        base = fingerprints.of(source.base) if source.base is not None else ""
        target = f"{base}:{WEIGHTS[source.dtype]}{_of_folder(source.base)}"
        if source.pipe is not None:
            from ..models.inference_behavior import inference_behavior

            behavior = inference_behavior(source.pipe, safety_checker=source.safety_checker)
            edits = f"{code_versions(family_of_class(type(source.pipe)))}{edits}"
            victim = f"{behavior.digest}{edits}"
            if behavior.reasons:
                # Unlike the key of any pipeline that can be hashed; edits are in it by their names.
                victim = f"{behavior.digest} and {digest(behavior.reasons)} beside it{edits}"
            return cls(victim, target if base else "", behavior.reasons, source.version)
        if source.model is None:
            return cls(f"{target}{edits}", target)
        files = (source.model, *source.adapters)
        model = "+".join(map(fingerprints.of, files))
        if (source.model / INDEX).is_file():
            # A whole pipeline takes nothing of a base. Its fingerprint differs from the base's even if it is a copy of
            # it, because only loading can find that out.
            edits = f"{_of_folder(source.model)}{_of_checkpoints(source.adapters)}{edits}"
            return cls(f"pipeline {model}:{WEIGHTS[source.dtype]}{edits}", target, version=source.version)
        edits = f"{_of_checkpoints(files)}{edits}"
        return cls(f"{model}+{target}{edits}", target, version=source.version)


def _of_checkpoints(files: Sequence[Path]) -> str:
    """Return the versions of the code that reads checkpoints."""
    formats = {row.name: row for path in files for row in possible_formats(inspect_model(path))}
    return code_versions(*formats.values())


def _of_folder(pipeline: Path | None) -> str:
    """Return the version of the code that draws with a pipeline folder."""
    if pipeline is None:
        return ""
    return code_versions(family_named(inspect_model(pipeline).pipeline))


def located(source: ModelSpec) -> ModelSpec:
    """Replace device ``auto`` by a device of this process.

    Raises:
        ModuleNotFoundError: torch is needed to find it, and is not installed.
    """
    if source.device != AUTO:
        return source
    if (device := foreseen()) is None:
        from ..models.device import best_device

        device = best_device()
    return source.on(device)
