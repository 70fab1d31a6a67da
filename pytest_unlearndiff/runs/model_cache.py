"""What the campaigns of one process share: pipelines and judges, each loaded once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.concept import JudgeConfig
from ..core.defenses import DefenseConfig, describe_defenses
from ..core.device import AUTO, WEIGHTS, foreseen, resolve_precision
from ..core.errors import ModelError, join_reasons
from ..core.judge_options import weights_of
from ..core.versioned_pipeline import split_version
from ..sources.base_guess import INDEX
from ..sources.download import source_url
from ..sources.import_string import call_factory, is_import_string
from ..store.key import Fingerprints, digest


@dataclass(frozen=True)
class ModelSpec:
    """Where a victim comes from.

    Attributes:
        model: pipeline folder, component folder or checkpoint file; None where ``pipe`` is given, or where the
            un-erased base itself is the victim.
        base: the un-erased pipeline's folder, for what a checkpoint lacks and for target images.
        pipe: a pipeline of the user's own, instead of ``model``, or made by the callable that ``model`` names.
        version: the user's version of all that acts on the victim at inference; empty for none.
        version_of: who made the pipeline, where the version is not said of it alone; empty otherwise.
        device: such as ``cpu`` or ``cuda``; ``auto`` until the models are loaded, see ``located``.
        dtype: name of the arithmetic, one of ``core.device.WEIGHTS``.
        compiled: whether to have torch compile the UNets; like the device, it is not part of the key.
        trust_pickle: whether pickles may be read that name more than tensors; it is never executed.
        partial: whether a checkpoint may lack tensors without a pattern.
        defenses: act on its images as they are drawn.
        safety_checker: whether its images pass its pipeline's own safety checker before the judge sees them.
        assumed: why this base, where it was not given.
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
        """The base as a victim: nothing is put into it, and nothing is done to its images."""
        plain = replace(self, model=None, pipe=None, version="", version_of="", assumed="")
        return replace(plain, defenses=(), safety_checker=False)

    def on(self, device: str) -> ModelSpec:
        """The same where its models run on this device, in the arithmetic of that."""
        return replace(self, device=device, dtype=resolve_precision(self.dtype, device))

    @property
    def beside(self) -> str:
        """What is done to images beside what the weights do, in words, for reports and keys; empty for nothing."""
        checked = "its own safety checker" if self.safety_checker else ""
        return " and ".join(filter(None, (describe_defenses(self.defenses), checked)))

    @property
    def title(self) -> str:
        """What is attacked, for people."""
        if self.pipe is not None:
            return f"the {type(self.pipe).__name__} of {self.model or 'unlearned_pipe'}"
        return source_url(self.model) if self.model is not None else f"the base {self.base and source_url(self.base)}"


@dataclass(frozen=True)
class Fingerprint:
    """What is known of a victim before it is loaded.

    Attributes:
        victim: content hash of its weights, and of what acts on it at inference as far as a hash can stand for that.
        target: content hash of what target images are made from.
        unhashed: what acts on it at inference that no hash can stand for, such as hooks.
        version: what the user says stands for that; empty for nothing.
    """

    victim: str
    target: str
    unhashed: tuple[str, ...] = ()
    version: str = ""

    @property
    def complete(self) -> bool:
        """Whether two victims of this fingerprint draw the same, so that outcomes may be kept under it."""
        return not self.unhashed or bool(self.version)

    @property
    def unkept(self) -> str:
        """Why no store has or gets outcomes of the victim, and the remedy; empty where one may."""
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
        """Hash the weights: files where there are files, tensors where there is only a pipeline.

        Args:
            source: where the victim comes from.
            fingerprints: hashes files.
            images: target images of the user's, by prompt digest.

        Raises:
            StoreError: a path leads nowhere.
        """
        plain = cls._of_weights(source, fingerprints)
        if not images:
            return plain
        # Of the whole set, so that some of its prompts and all of them share their outcomes.
        theirs = digest({prompt: fingerprints.of(Path(path)) for prompt, path in images.items()})
        return replace(plain, target=f"images {theirs}" + (f" and {plain.target}" if source.base is not None else ""))

    @classmethod
    def _of_weights(cls, source: ModelSpec, fingerprints: Fingerprints) -> Fingerprint:
        """The same where the base draws the target images."""
        guided = f" with {source.beside}" if source.beside else ""
        if source.version:
            whose = f" of {source.version_of}" if source.version_of else ""
            guided = f" in version {source.version!r}{whose}{guided}"
        base = fingerprints.of(source.base) if source.base is not None else ""
        target = f"{base}:{WEIGHTS[source.dtype]}"
        if source.pipe is not None:
            from ..models.inference_behavior import inference_behavior

            found = inference_behavior(source.pipe, safety_checker=source.safety_checker)
            victim = f"{found.digest}{guided}"
            if found.reasons:
                # No key of a pipeline that a hash stands for; what acts on it is in it as far as it has names.
                victim = f"{found.digest} and {digest(found.reasons)} beside it{guided}"
            return cls(victim, target if base else "", found.reasons, source.version)
        if source.model is None:
            return cls(f"{target}{guided}", target)
        model = fingerprints.of(source.model)
        if (source.model / INDEX).is_file():
            # It takes nothing of a base; and a copy of its base has to be found out when it is loaded, so that what the
            # base itself drew must not answer for it.
            return cls(f"pipeline {model}:{WEIGHTS[source.dtype]}{guided}", target, version=source.version)
        return cls(f"{model}+{target}{guided}", target, version=source.version)


def located(source: ModelSpec) -> ModelSpec:
    """The same with the device that ``auto`` stands for in this process.

    Raises:
        ModuleNotFoundError: torch has to be asked, and is not installed.
    """
    if source.device != AUTO:
        return source
    if (device := foreseen()) is None:
        from ..models.device import best_device

        device = best_device()
    return source.on(device)


def import_libraries() -> None:
    """Import what models need, without the advice that its libraries log about themselves.

    Raises:
        ModuleNotFoundError: something is not installed.
    """
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        from ..models import loading  # noqa: F401
    finally:
        logging.disable(before)


_Paths = Iterable[Path | str | None]


class ModelCache:
    """Loads pipelines and judges, each once, and only when asked for; a pipeline that is given is taken as it is.

    What lies at a path is loaded again when its content is another one than it was: keys follow content too.

    Args:
        fingerprints: hashes files; the session's own, which knows them already.
    """

    def __init__(self, fingerprints: Fingerprints | None = None) -> None:
        self._fingerprints = Fingerprints() if fingerprints is None else fingerprints
        self._known: dict[Hashable, tuple[str, Any]] = {}

    def base(self, source: ModelSpec) -> Any:
        """The un-erased pipeline."""
        return self._pipeline(str(source.base), source)

    def _pipeline(self, path: str, source: ModelSpec, *, checked: bool = False) -> Any:
        """The pipeline of a folder, where and as ``source`` says; with its safety checker if that is wanted."""
        import_libraries()
        from ..models.pipeline_folders import load_pipeline

        where = ("pipeline", path, source.device, source.dtype)
        # A ``DiffusionModel`` takes the checker out where it does not count, so that one copy of the weights is enough.
        checked = checked or (*where, True) in self._known
        return self._loaded(
            (*where, checked),
            (path,),
            lambda: load_pipeline(path, device=source.device, dtype=source.dtype, safety_checker=checked),
        )

    def victim(self, source: ModelSpec) -> Any:
        """What was loaded for a victim: a ``Loaded``."""
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

        where = ("victim", path, source.base, source.device, source.dtype, source.safety_checker)
        return self._loaded(where, (path, source.base), load)

    def _own(self, source: ModelSpec) -> Any:
        """A pipeline of the user's own, held against its base."""
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

    def made(self, spelt: str) -> Any:
        """What a callable of the user's own makes, asked once."""
        return self._once(("made", spelt), (), lambda: call_factory(spelt))

    def judge(self, spec: JudgeConfig, source: ModelSpec) -> Any:
        """The judge of a concept, where the victim of ``source`` runs."""
        from ..judges.base import build_judge

        return self._loaded(
            ("judge", spec.kind, digest(dict(spec.options)), source.device),
            weights_of(spec),
            lambda: build_judge(spec, source.device, lambda path: self._pipeline(path, source)),
        )

    def drop(self) -> None:
        """Forget everything, and give the memory that it took on a GPU to others."""
        import gc

        self._known.clear()
        gc.collect()
        if (torch := sys.modules.get("torch")) is not None:
            torch.cuda.empty_cache()

    def _loaded(self, key: Hashable, paths: _Paths, load: Callable[[], Any]) -> Any:
        """Something loaded once, without what libraries say about it."""
        from ..models.silence import silence_libraries

        with silence_libraries():
            return self._once(key, paths, load)

    def _once(self, key: Hashable, paths: _Paths, make: Callable[[], Any]) -> Any:
        """Something made once of what lies at these paths, and again when that has changed.

        Raises:
            ModelError: it changes as it is loaded, so that nobody can tell what was loaded.
        """
        content = self._fingerprints.of_all(*paths)
        if key not in self._known or self._known[key][0] != content:
            self._known.pop(key, None)  # the old one's memory is needed
            made = make()
            self._check_unchanged(content, paths)
            self._known[key] = content, made
        return self._known[key][1]

    def _check_unchanged(self, content: str, paths: _Paths) -> None:
        if self._fingerprints.of_all(*paths) != content:
            named = " or ".join(str(path) for path in paths if path is not None)
            raise ModelError(f"{named} changed as it was loaded: run again when nobody writes it")
