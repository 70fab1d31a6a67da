"""State of one test session: settings, store, concepts, loaded models, finished gates."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import pytest

from ..core.concept_file import BUILT_IN, ConceptLibrary
from ..core.rate import Rate
from ..reports.gate_report import GateReport
from ..reports.quality_report import QualityReport
from ..reports.session_report import AnyReport, UnmeasuredTest
from ..reports.text import pluralize
from ..runs.gpu_slots import GpuSlots
from ..runs.model_cache import ModelCache
from ..runs.model_spec import ModelSpec, located
from ..sources.download import PromptSetCache
from ..store.shared_store import SharedStore
from ..store.store import LastSession, Mode, Store
from ..workers.distributed_engine import HEARTBEAT_TIMEOUT, WorkerPoolConfig
from ..workers.ray_backend import RayBackend
from .options import RUN
from .settings import register_rows, settings_of, tell

STATE = pytest.StashKey["SessionState"]()
GATE = "unlearndiff_gate"
RERUN = "rerun"
"""The outcome that pytest-rerunfailures gives a report whose test runs again: the last run counts."""
CARRIED = "unlearndiff_records"
UNREACHED = "unlearndiff_unreached"
CARRIED_QUALITY = "unlearndiff_quality_records"
RECORDS = pytest.StashKey[list[GateReport]]()
"""Gates that a test has finished."""
QUALITY_RECORDS = pytest.StashKey[list[QualityReport]]()
"""Those on image quality."""


class SessionState:
    """State of one session; everything costly in it is created on first use.

    Attributes:
        settings: values of the options.
        gates: finished gates, in the order in which they arrived.
        quality: those on image quality.
        skipped: node ids of gates that were skipped.
        finished: gates that the running test has finished in this process.
        deadline: seconds on ``time.monotonic``'s clock; no attack begins after it.
        unmeasured: tests that ended without a gate report, or failed with one.
        unreached: gates that were not reached because another one of their test failed: node id and note.
        lacking: gates that were running or not reached when the session was cut short.
        deselected: node ids of gates that were collected, and left out by what the command line selects.
        report_failed: whether a report could not be written.
        interrupted: message that says where Ctrl-C stopped a campaign and what is kept of it; empty if none was.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.settings = settings_of(config)
        self._config = config
        budget = self.settings.time_budget
        self.deadline = float("inf") if budget is None else time.monotonic() + budget
        self.gates: list[GateReport] = []
        self.quality: list[QualityReport] = []
        self.skipped: list[str] = []
        self.finished: list[GateReport] = []
        self.interrupted = ""
        self._begun = False
        self._stays = False
        self._libraries: dict[Path, ConceptLibrary] = {}
        self.unmeasured: list[UnmeasuredTest] = []
        self.unreached: list[tuple[str, str]] = []
        self.lacking: list[UnmeasuredTest] = []
        self.deselected: list[str] = []
        self.report_failed = False

    @property
    def every(self) -> list[AnyReport]:
        """Finished gates of every kind."""
        return [*self.gates, *self.quality]

    @cached_property
    def run(self) -> str:
        """Name of this session in its store; under xdist, the same in every process."""
        uuid = getattr(self._config, "workerinput", {}).get("testrunuid") or self._config.stash.get(RUN, "")
        return uuid or f"{os.getpid()}-{time.time_ns()}"

    def begin(self) -> None:
        """Note in the store that the session runs, so that a killed session is not mistaken for the one before it."""
        if not self._begun and self.store.mode.writes:
            self._begun = LastSession(self.store.root).begin(self.run)

    @cached_property
    def store(self) -> Store:
        """Finished outcomes on disk."""
        where, mode = self.settings.cache_dir, Mode(self.settings.cache)
        images = self.settings.images != "none"
        if isinstance(where, Path):
            return Store(where, mode, keep_images=images)
        root = self._config.rootpath / ".unlearndiff"
        if mode is Mode.OFF:
            return Store(root, mode)
        return SharedStore(root, where, mode, keep_images=images)

    @cached_property
    def prompt_set_cache(self) -> PromptSetCache:
        """Cache of remote prompt sets, kept where this session keeps outcomes."""
        mode = self.store.mode
        return PromptSetCache(None if mode is Mode.OFF else self.store.root, keep=mode.writes)

    @cached_property
    def models(self) -> ModelCache:
        """Loaded pipelines and judges."""
        return ModelCache(self.store.fingerprints)

    @cached_property
    def worker_pool(self) -> WorkerPoolConfig | None:
        """Worker processes that attack instead of this one; None if this one does."""
        settings = self.settings
        if settings.workers is None:
            return None
        backend = RayBackend(settings.workers, settings.device)
        self._config.add_cleanup(backend.close)
        return WorkerPoolConfig(backend, settings.worker_timeout or HEARTBEAT_TIMEOUT)

    def library(self, folder: Path) -> ConceptLibrary:
        """Return the concepts that a test file in ``folder`` sees: beside it, listed, at the rootdir, from hooks.

        Raises:
            GateError: a row of a plugin is malformed.
        """
        if folder in self._libraries:
            return self._libraries[folder]
        register_rows(self._config)  # concepts may name judges of plugins

        from_hooks = chain.from_iterable(self._config.hook.pytest_unlearndiff_concepts(config=self._config))
        folders = [folder / "concepts", *self.settings.concepts, self._config.rootpath / "concepts", *from_hooks]
        folders = [path for path in folders if path != BUILT_IN]  # the built-in ones always come last
        library = ConceptLibrary(folders, self.settings.prompt_sets, self.prompt_set_cache)
        return self._libraries.setdefault(folder, library)

    @cached_property
    def _gpus(self) -> GpuSlots:
        name = getattr(self._config, "workerinput", {}).get("workerid", "this session")
        return GpuSlots(lambda text: self._tell(f"unlearndiff: {name} {text}"))

    def _tell(self, text: str) -> None:
        if self.settings.progress != "off":
            tell(self._config, f"\n{text}\n")

    def acquire_device(self, source: ModelSpec, *, for_good: bool = False) -> ModelSpec:
        """Assign a GPU, waiting if necessary; a model that runs elsewhere is returned unchanged.

        Args:
            source: the victim.
            for_good: whether the GPU is kept until the session ends.

        Raises:
            AttackUnavailable: there is none.
        """
        source = located(source)
        if not source.device.startswith("cuda"):
            return source
        self._stays |= for_good or source.pipe is not None  # only what ``models`` loaded can be dropped
        return replace(source, device=self._gpus.acquire(source.device, lambda: time.monotonic() > self.deadline))

    def release_device(self) -> None:
        """Under xdist, drop what is loaded and give the GPU back after each test: another process may wait for it."""
        if "_gpus" in vars(self) and not self._stays and hasattr(self._config, "workerinput"):
            self.models.drop()
            self._gpus.release()

    def gate_of(self, *sides: object) -> GateReport | None:
        """Return the running test's gate that a compared rate comes from; None if it may be one of two."""
        counts = next(((side.successes, side.trials) for side in sides if isinstance(side, Rate)), None)
        gates = {
            gate.key: gate
            for gate in self.finished
            if counts in ((gate.hits, gate.counts.total), (gate.counts.hits_without_attack, gate.counts.total))
        }
        return next(iter(gates.values())) if len(gates) == 1 else None

    @property
    def selection(self) -> str:
        """Say which part of the gates this session is limited to; empty where it is to all."""
        cases, left_out = self.settings.case_numbers, len(self.deselected)
        parts = [f"only cases {', '.join(map(str, cases))}"] if cases else []
        if any("::" in argument for argument in self._config.args):
            parts.append("only tests that the command names")
        return "; ".join(parts + ([f"{pluralize(left_out, 'gate')} deselected"] if left_out else []))

    def require_failure(self) -> str:
        """Return why --unlearndiff-require is not met; empty if it is, or is not set."""
        if not self.settings.require or self.settings.plan:
            return ""
        if self.skipped:
            return f"{len(self.skipped)} gates were skipped, such as {self.skipped[0]}"
        return "" if self.every else "no gate ran"


def expected_failure(report: pytest.TestReport) -> str:
    """Return why a test is expected to fail; empty if it is not."""
    return str(getattr(report, "wasxfail", "")) or ("yes" if hasattr(report, "wasxfail") else "")


def state_of(config: pytest.Config) -> SessionState:
    """Return the session's state, created on first use."""
    if STATE not in config.stash:
        config.stash[STATE] = SessionState(config)
    return config.stash[STATE]
