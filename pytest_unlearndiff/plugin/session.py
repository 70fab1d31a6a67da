"""What one test session shares: settings, store, concepts, loaded parts, finished gates."""

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
from ..reports.session_report import UnmeasuredTest
from ..runs.gpu_slots import GpuSlots
from ..runs.model_cache import ModelCache, ModelSpec, located
from ..sources.prompt_set_cache import PromptSetCache
from ..store.last_session import LastSession
from ..store.shared_store import SharedStore
from ..store.store import Mode, Store
from ..workers.distributed_engine import HEARTBEAT_TIMEOUT, WorkerPoolConfig
from ..workers.ray_backend import RayBackend
from .live_progress import tell
from .names import RUN
from .registration import register_rows
from .settings import settings_of

STATE = pytest.StashKey["SessionState"]()
GATE = "unlearndiff_gate"
RERUN = "rerun"
"""The outcome that pytest-rerunfailures gives a report whose test runs again: the last run counts."""
CARRIED = "unlearndiff_records"
UNREACHED = "unlearndiff_unreached"
RECORDS = pytest.StashKey[list[GateReport]]()
"""Gates that a test has finished."""


class SessionState:
    """One session's state; everything costly in it is made when first asked for.

    Attributes:
        settings: what the session was asked to do.
        gates: finished gates, in the order they arrived.
        skipped: node ids of gates that were skipped.
        finished: gates that the running test has finished in this process.
        deadline: on ``time.monotonic``'s clock; no attack is begun after it.
        unmeasured: tests that ended without a record, or failed with one.
        unreached: gates that another one of the same test ended: node id, and which.
        lacking: gates that the session was cut short in or before.
        report_failed: whether a report that was asked for could not be written.
        interrupted: where Ctrl-C stopped a campaign, and what is kept of it; empty where none was stopped.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.settings = settings_of(config)
        self._config = config
        budget = self.settings.time_budget
        self.deadline = float("inf") if budget is None else time.monotonic() + budget
        self.gates: list[GateReport] = []
        self.skipped: list[str] = []
        self.finished: list[GateReport] = []
        self.interrupted = ""
        self._begun = False
        self._stays = False
        self._libraries: dict[Path, ConceptLibrary] = {}
        self.unmeasured: list[UnmeasuredTest] = []
        self.unreached: list[tuple[str, str]] = []
        self.lacking: list[UnmeasuredTest] = []
        self.report_failed = False

    @cached_property
    def run(self) -> str:
        """What this session is called in its store; under xdist, the same in every process."""
        uuid = getattr(self._config, "workerinput", {}).get("testrunuid") or self._config.stash.get(RUN, "")
        return uuid or f"{os.getpid()}-{time.time_ns()}"

    def begin(self) -> None:
        """Note in the store that the session runs, so that one that is killed is not taken for the one before it."""
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
    def copies(self) -> PromptSetCache:
        """Prompt sets from elsewhere, kept where this session keeps outcomes."""
        mode = self.store.mode
        return PromptSetCache(None if mode is Mode.OFF else self.store.root, keep=mode.writes)

    @cached_property
    def parts(self) -> ModelCache:
        """Loaded pipelines and judges."""
        return ModelCache(self.store.fingerprints)

    @cached_property
    def crew(self) -> WorkerPoolConfig | None:
        """Processes that attack instead of this one; None where this one does."""
        settings = self.settings
        if settings.workers is None:
            return None
        backend = RayBackend(settings.workers, settings.device)
        self._config.add_cleanup(backend.close)
        return WorkerPoolConfig(backend, settings.worker_timeout or HEARTBEAT_TIMEOUT)

    def library(self, folder: Path) -> ConceptLibrary:
        """Concepts as a test file in ``folder`` sees them: beside it, listed, at the rootdir, from hooks.

        Raises:
            GateError: a row of a plugin is malformed.
        """
        if folder in self._libraries:
            return self._libraries[folder]
        register_rows(self._config)  # concepts may name judges of plugins

        hooked = chain.from_iterable(self._config.hook.pytest_unlearndiff_concepts(config=self._config))
        places = [folder / "concepts", *self.settings.concepts, self._config.rootpath / "concepts", *hooked]
        mine = [place for place in places if place != BUILT_IN]  # those come last in any case
        return self._libraries.setdefault(folder, ConceptLibrary(mine, self.settings.prompt_sets, self.copies))

    @cached_property
    def _gpus(self) -> GpuSlots:
        who = getattr(self._config, "workerinput", {}).get("workerid", "this session")
        return GpuSlots(lambda text: self._tell(f"unlearndiff: {who} {text}"))

    def _tell(self, text: str) -> None:
        if self.settings.progress != "off":
            tell(self._config, f"\n{text}\n")

    def acquire_device(self, source: ModelSpec, *, for_good: bool = False) -> ModelSpec:
        """Assign a GPU to a victim that needs one, waiting if necessary; one that runs elsewhere is returned as it is.

        Args:
            source: the victim.
            for_good: whether the GPU is kept until the session ends.

        Raises:
            AttackUnavailable: there is none.
        """
        source = located(source)
        if not source.device.startswith("cuda"):
            return source
        self._stays |= for_good or source.pipe is not None  # only what ``parts`` loaded can be dropped
        return replace(source, device=self._gpus.acquire(source.device, lambda: time.monotonic() > self.deadline))

    def release_device(self) -> None:
        """Under xdist, drop what is loaded and give the GPU back after each test: another process may wait for it."""
        if "_gpus" in vars(self) and not self._stays and hasattr(self._config, "workerinput"):
            self.parts.drop()
            self._gpus.release()

    def gate_of(self, *sides: object) -> GateReport | None:
        """The running test's gate that a compared rate comes from; None where two gates may be meant."""
        counts = next(((side.successes, side.trials) for side in sides if isinstance(side, Rate)), None)
        gates = {
            gate.key: gate
            for gate in self.finished
            if counts in ((gate.hits, gate.counts.total), (gate.counts.hits_without_attack, gate.counts.total))
        }
        return next(iter(gates.values())) if len(gates) == 1 else None

    def unmet(self) -> str:
        """Why --unlearndiff-require is not met; empty where it is, or was not asked for."""
        if not self.settings.require or self.settings.plan:
            return ""
        if self.skipped:
            return f"{len(self.skipped)} gates were skipped, such as {self.skipped[0]}"
        return "" if self.gates else "no gate ran"


def expected_failure(report: pytest.TestReport) -> str:
    """Why a test is expected to fail; empty where it is not."""
    return str(getattr(report, "wasxfail", "")) or ("yes" if hasattr(report, "wasxfail") else "")


def state_of(config: pytest.Config) -> SessionState:
    """The session's state, made on first use so that suites without gates pay nothing."""
    if STATE not in config.stash:
        config.stash[STATE] = SessionState(config)
    return config.stash[STATE]
