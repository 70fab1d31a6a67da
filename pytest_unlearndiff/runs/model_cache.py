"""A cache of loaded pipelines and judges."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.concept import JudgeConfig
from ..core.errors import ModelError
from ..core.judge_options import weights_of
from ..core.model_options import split_version
from ..models.families.lookup import components_of
from ..sources.resolve import call_factory, is_import_string
from ..store.key import Fingerprints, digest
from .model_memory import weights_memory
from .model_spec import ModelSpec


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
_PIPELINES = ("pipeline", "victim")


class ModelCache:
    """Loads pipelines and judges on first use, and again when the content of their files has changed, as keys do.

    Pipeline objects are not cached.

    Args:
        fingerprints: hashes files; usually the session's.
    """

    def __init__(self, fingerprints: Fingerprints | None = None) -> None:
        self._fingerprints = Fingerprints() if fingerprints is None else fingerprints
        self._cached: dict[Hashable, tuple[str, Any]] = {}
        self._short: set[str] = set()  # devices that victim and base take turns on

    def base(self, source: ModelSpec) -> Any:
        """Return the un-erased pipeline."""
        return self._pipeline(str(source.base), source)

    @contextmanager
    def base_at_work(self, source: ModelSpec, victim: Any) -> Iterator[None]:
        """Have the base on the device of ``source`` in place of the victim, if it has no room for both."""
        if source.device not in self._short:
            yield
            return
        self._bring([self.base(source)], source.device)
        try:
            yield
        finally:
            self._bring([victim], source.device)

    def _bring(self, pipes: Sequence[Any], device: str) -> None:
        """Move pipelines onto a device, and the others that are loaded off it."""
        from ..models.residence import bring

        made = [made for key, (_, made) in self._cached.items() if isinstance(key, tuple) and key[0] in _PIPELINES]
        bring(pipes, [*(getattr(each, "pipe", each) for each in made), *pipes], device)

    def _is_short(self, source: ModelSpec) -> bool:
        """Tell whether a GPU has no room for a victim beside its base, with what an attack needs."""
        from ..models.residence import ROOM, memory_of

        if (total := memory_of(source.device)) is None:
            return False
        memory = weights_memory(source, self._fingerprints)
        return memory is not None and memory.base > 0 and memory.victim + memory.base > ROOM * total

    def _pipeline(self, path: str, source: ModelSpec, *, checked: bool = False, at: str | None = None) -> Any:
        """Return the pipeline of a folder on the device of ``source``; with its safety checker if ``checked``."""
        import_libraries()
        from ..models.pipeline_folders import load_pipeline

        key = ("pipeline", path, source.device, source.dtype)
        # A ``DiffusionModel`` takes an unwanted checker out, so that one copy of the weights is enough.
        checked = checked or (*key, True) in self._cached
        return self._loaded(
            (*key, checked),
            (path,),
            lambda: load_pipeline(path, device=at or source.device, dtype=source.dtype, safety_checker=checked),
        )

    def victim(self, source: ModelSpec, *, with_base: bool = False) -> Any:
        """Return the loaded victim, a ``Loaded``.

        Args:
            source: the victim.
            with_base: whether its base is needed on the device beside it; otherwise it is there within
                ``base_at_work``, and between only where there is room.
        """
        import_libraries()
        from ..models.checkpoint import read_checkpoint
        from ..models.loading import Loaded, add_adapters, load_victim

        if is_import_string(source.model) and source.pipe is None:
            pipe, version = split_version(self.made(str(source.model)))
            source = replace(source, pipe=pipe, version=version or source.version)
        if source.pipe is not None:
            return self._own(source)
        base = str(source.base)
        if source.model is not None and not with_base and self._is_short(source):
            self._short.add(source.device)
        at = "cpu" if source.device in self._short else source.device
        if source.model is None:
            pipe = self._pipeline(base, source, checked=source.safety_checker, at=at)
            if source.device in self._short:
                self._bring([pipe], source.device)
            return Loaded(pipe, "the un-erased base itself")
        paths = (source.model, *source.adapters)

        def load() -> Loaded:
            if at != source.device:
                self._bring([], source.device)  # all of it is compared and patched where there is room
            checkpoint, *adapters = (read_checkpoint(path, trust_pickle=source.trust_pickle) for path in paths)
            # A bare checkpoint is shipped inside its base, whose safety checker then is its own.
            checked = source.safety_checker and not checkpoint.pipeline
            pipe = self._pipeline(base, source, checked=checked, at=at) if source.base is not None else None
            loaded = load_victim(
                checkpoint,
                pipe,
                device=at,
                dtype=source.dtype,
                partial=source.partial,
                defended=bool(source.defenses),
                safety_checker=source.safety_checker,
                assumed=source.assumed,
                shared=self._shared(paths[0], source.base, pipe) if checkpoint.pipeline else None,
            )
            return add_adapters(loaded, checkpoint, adapters, partial=source.partial)

        key = ("victim", paths, source.base, source.device, source.dtype, source.safety_checker)
        loaded = self._loaded(key, (*paths, source.base), load)
        if source.device in self._short:
            needed = [self.base(source)] if with_base and source.base is not None else []
            self._bring([loaded.pipe, *needed], source.device)
        return loaded

    def _shared(self, model: Path, base: Path | None, pipe: Any) -> dict[str, Any]:
        """Return the components of a base whose files a pipeline folder has too."""
        from ..sources.weight_files import same_files

        if base is None:
            return {}
        names = (name for name in components_of(pipe) if same_files(model, base, name, self._fingerprints.of))
        return {name: getattr(pipe, name) for name in names}

    def _own(self, source: ModelSpec) -> Any:
        """Check a pipeline object against its base."""
        from ..models.inference_behavior import inference_behavior
        from ..models.loading import wrap_pipeline

        acts = inference_behavior(source.pipe, safety_checker=source.safety_checker, weights=False).reasons
        return wrap_pipeline(
            source.pipe,
            self.base(source) if source.base is not None else None,
            acts=(*acts, *filter(None, [source.inference_edits])),
            safety_checker=source.safety_checker,
            title=source.label,
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
        self._short.clear()
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
