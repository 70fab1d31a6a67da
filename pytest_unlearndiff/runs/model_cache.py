"""Specification and fingerprint of a model under test; a cache of loaded pipelines and judges."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.concept import JudgeConfig
from ..core.device import AUTO, WEIGHTS, foreseen, resolve_precision
from ..core.errors import ModelError, join_reasons
from ..core.judge_options import weights_of
from ..core.model_options import DefenseConfig, describe_defenses, split_version
from ..sources.base_guess import INDEX
from ..sources.download import source_url
from ..sources.resolve import call_factory, is_import_string
from ..store.key import Fingerprints, digest


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

    @property
    def base_only(self) -> ModelSpec:
        """The un-erased base as a victim, without erasers."""
        plain = replace(self, model=None, pipe=None, version="", version_of="", assumed="")
        return replace(plain, defenses=(), safety_checker=False)

    def on(self, device: str) -> ModelSpec:
        """Return the same on another device, in that device's arithmetic."""
        return replace(self, device=device, dtype=resolve_precision(self.dtype, device))

    @property
    def beside(self) -> str:
        """Defences and safety checker in words, for reports and keys; empty for none."""
        checked = "its own safety checker" if self.safety_checker else ""
        return " and ".join(filter(None, (describe_defenses(self.defenses), checked)))

    @property
    def title(self) -> str:
        """Name of the victim for people."""
        if self.pipe is not None:
            return f"the {type(self.pipe).__name__} of {self.model or 'unlearned_pipe'}"
        return source_url(self.model) if self.model is not None else f"the base {self.base and source_url(self.base)}"


@dataclass(frozen=True)
class Fingerprint:
    """Content hashes of a victim, known before it is loaded.

    Attributes:
        victim: of its weights and, as far as they can be hashed, of edits at inference.
        target: of the source of target images.
        unhashed: edits at inference that cannot be hashed, such as hooks.
        version: the user's version of those; empty for none.
    """

    victim: str
    target: str
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
            images: paths of the user's target images, by prompt digest.

        Raises:
            StoreError: a path leads nowhere.
        """
        plain = cls._of_weights(source, fingerprints)
        if not images:
            return plain
        # Of the whole set, so that some of its prompts and all of them share their outcomes.
        hashed = digest({prompt: fingerprints.of(Path(path)) for prompt, path in images.items()})
        return replace(plain, target=f"images {hashed}" + (f" and {plain.target}" if source.base is not None else ""))

    @classmethod
    def _of_weights(cls, source: ModelSpec, fingerprints: Fingerprints) -> Fingerprint:
        """Hash victim and base, which draws the target images."""
        edits = f" with {source.beside}" if source.beside else ""
        if source.version:
            maker = f" of {source.version_of}" if source.version_of else ""
            edits = f" in version {source.version!r}{maker}{edits}"
        base = fingerprints.of(source.base) if source.base is not None else ""
        target = f"{base}:{WEIGHTS[source.dtype]}"
        if source.pipe is not None:
            from ..models.inference_behavior import inference_behavior

            behavior = inference_behavior(source.pipe, safety_checker=source.safety_checker)
            victim = f"{behavior.digest}{edits}"
            if behavior.reasons:
                # Unlike the key of any pipeline that can be hashed; edits are in it by their names.
                victim = f"{behavior.digest} and {digest(behavior.reasons)} beside it{edits}"
            return cls(victim, target if base else "", behavior.reasons, source.version)
        if source.model is None:
            return cls(f"{target}{edits}", target)
        model = fingerprints.of(source.model)
        if (source.model / INDEX).is_file():
            # A whole pipeline takes nothing of a base. Its fingerprint differs from the base's even if it is a copy of
            # it, because only loading can find that out.
            return cls(f"pipeline {model}:{WEIGHTS[source.dtype]}{edits}", target, version=source.version)
        return cls(f"{model}+{target}{edits}", target, version=source.version)


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


def import_libraries() -> None:
    """Import the libraries that models need, without the advice that they log about themselves.

    Raises:
        ModuleNotFoundError: one is not installed.
    """
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        from ..models import loading  # noqa: F401
    finally:
        logging.disable(before)


_Paths = Iterable[Path | str | None]


class ModelCache:
    """Loads pipelines and judges on first use, and again when the content of their files has changed, as keys do.

    Pipeline objects are not cached.

    Args:
        fingerprints: hashes files; usually the session's.
    """

    def __init__(self, fingerprints: Fingerprints | None = None) -> None:
        self._fingerprints = Fingerprints() if fingerprints is None else fingerprints
        self._cached: dict[Hashable, tuple[str, Any]] = {}

    def base(self, source: ModelSpec) -> Any:
        """Return the un-erased pipeline."""
        return self._pipeline(str(source.base), source)

    def _pipeline(self, path: str, source: ModelSpec, *, checked: bool = False) -> Any:
        """Return the pipeline of a folder on the device of ``source``; with its safety checker if ``checked``."""
        import_libraries()
        from ..models.pipeline_folders import load_pipeline

        key = ("pipeline", path, source.device, source.dtype)
        # A ``DiffusionModel`` takes an unwanted checker out, so that one copy of the weights is enough.
        checked = checked or (*key, True) in self._cached
        return self._loaded(
            (*key, checked),
            (path,),
            lambda: load_pipeline(path, device=source.device, dtype=source.dtype, safety_checker=checked),
        )

    def victim(self, source: ModelSpec) -> Any:
        """Return the loaded victim, a ``Loaded``."""
        import_libraries()
        from ..models.checkpoint import read_checkpoint
        from ..models.loading import Loaded, load_victim

        if is_import_string(source.model) and source.pipe is None:
            pipe, version = split_version(self.made(str(source.model)))
            source = replace(source, pipe=pipe, version=version or source.version)
        if source.pipe is not None:
            return self._own(source)
        base = str(source.base)
        if source.model is None:
            pipe = self._pipeline(base, source, checked=source.safety_checker)
            return Loaded(pipe, "the un-erased base itself")
        path = source.model

        def load() -> Loaded:
            checkpoint = read_checkpoint(path, trust_pickle=source.trust_pickle)
            # A bare checkpoint is shipped inside its base, whose safety checker then is its own.
            checked = source.safety_checker and not checkpoint.pipeline
            return load_victim(
                checkpoint,
                self._pipeline(base, source, checked=checked) if source.base is not None else None,
                device=source.device,
                dtype=source.dtype,
                partial=source.partial,
                defended=bool(source.defenses),
                safety_checker=source.safety_checker,
                assumed=source.assumed,
            )

        key = ("victim", path, source.base, source.device, source.dtype, source.safety_checker)
        return self._loaded(key, (path, source.base), load)

    def _own(self, source: ModelSpec) -> Any:
        """Check a pipeline object against its base."""
        from ..models.inference_behavior import inference_behavior
        from ..models.loading import wrap_pipeline

        acts = inference_behavior(source.pipe, safety_checker=source.safety_checker, weights=False).reasons
        return wrap_pipeline(
            source.pipe,
            self.base(source) if source.base is not None else None,
            acts=(*acts, *filter(None, [source.beside])),
            safety_checker=source.safety_checker,
            title=source.title,
        )

    def made(self, name: str) -> Any:
        """Return the pipeline that the user's callable makes; it is called once."""
        return self._once(("made", name), (), lambda: call_factory(name))

    def judge(self, spec: JudgeConfig, source: ModelSpec) -> Any:
        """Return the judge of a concept, on the device of ``source``."""
        from ..judges.base import build_judge

        return self._loaded(
            ("judge", spec.kind, digest(dict(spec.options)), source.device),
            weights_of(spec),
            lambda: build_judge(spec, source.device, lambda path: self._pipeline(path, source)),
        )

    def drop(self) -> None:
        """Forget everything, and free its memory on a GPU."""
        import gc

        self._cached.clear()
        gc.collect()
        if (torch := sys.modules.get("torch")) is not None:
            torch.cuda.empty_cache()

    def _loaded(self, key: Hashable, paths: _Paths, load: Callable[[], Any]) -> Any:
        """Load once, without the libraries' own messages."""
        from ..models.libraries import silence_libraries

        with silence_libraries():
            return self._once(key, paths, load)

    def _once(self, key: Hashable, paths: _Paths, make: Callable[[], Any]) -> Any:
        """Make once, and again when the content of these paths has changed.

        Raises:
            ModelError: the content changes while it is loaded.
        """
        content = self._fingerprints.of_all(*paths)
        if key not in self._cached or self._cached[key][0] != content:
            self._cached.pop(key, None)  # the old one's memory is needed
            made = make()
            self._check_unchanged(content, paths)
            self._cached[key] = content, made
        return self._cached[key][1]

    def _check_unchanged(self, content: str, paths: _Paths) -> None:
        if self._fingerprints.of_all(*paths) != content:
            named = " or ".join(str(path) for path in paths if path is not None)
            raise ModelError(f"{named} changed as it was loaded: run again when nobody writes it")
