"""What one test session shares: settings, store, concepts, loaded parts, finished gates."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .options import Settings

if TYPE_CHECKING:
    from ..campaign.parts import Parts
    from ..core.concept_file import ConceptLibrary
    from ..reports.record import Record
    from ..store.store import Store

STATE = pytest.StashKey["SessionState"]()
GATE = "unlearndiff_gate"
CARRIED = "unlearndiff_records"
RECORDS = pytest.StashKey[list[dict[str, Any]]]()


class SessionState:
    """One session's state; everything costly in it is made when first asked for.

    Attributes:
        settings: what the session was asked to do.
        records: one entry a finished gate, builtin types only, in the order they arrived.
        skipped: node ids of gates that were skipped.
        finished: gates that the running test has finished in this process.
        interrupted: where Ctrl-C stopped a campaign, and what is kept of it; empty where none was stopped.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.settings = Settings.from_config(config)
        self.records: list[dict[str, Any]] = []
        self.skipped: list[str] = []
        self.finished: list[Record] = []
        self.interrupted = ""

    @cached_property
    def store(self) -> Store:
        """Finished outcomes on disk."""
        from ..store.store import Mode, Store

        return Store(self.settings.cache_dir, Mode(self.settings.cache))

    @cached_property
    def parts(self) -> Parts:
        """Loaded pipelines and judges."""
        from ..campaign.parts import Parts

        return Parts()

    def library(self, folder: Path) -> ConceptLibrary:
        """Concepts as a test file in ``folder`` sees them: those beside it first."""
        from ..core.concept_file import ConceptLibrary

        return ConceptLibrary([folder / "concepts", *self.settings.concepts], self.settings.published)

    def gate_of(self, *sides: object) -> Record | None:
        """The running test's gate that a compared rate comes from; None where two gates may be meant."""
        from ..core.rate import Rate

        counts = next(((side.successes, side.trials) for side in sides if isinstance(side, Rate)), None)
        gates = {
            record.key: record
            for record in self.finished
            if counts in ((record.successes, record.total), (record.generated, record.total))
        }
        return next(iter(gates.values())) if len(gates) == 1 else None

    def unmet(self) -> str:
        """Why --unlearndiff-require is not met; empty where it is, or was not asked for."""
        if not self.settings.require:
            return ""
        if self.skipped:
            return f"{len(self.skipped)} gates were skipped, such as {self.skipped[0]}"
        return "" if self.records else "no gate ran"


def state_of(config: pytest.Config) -> SessionState:
    """The session's state, made on first use so that suites without gates pay nothing."""
    if STATE not in config.stash:
        config.stash[STATE] = SessionState(config)
    return config.stash[STATE]
