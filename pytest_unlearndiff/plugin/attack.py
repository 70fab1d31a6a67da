"""What the ``unlearndiff_attack`` fixture does when a test calls it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from ..campaign.campaign import Campaign, Fingerprint
from ..campaign.parts import VictimSource
from ..core.errors import ASRExceeded, AttackIncomplete, UnlearnDiffError
from ..core.gate import Verdict
from ..core.judge_kinds import on_base
from ..core.outcome import Status
from ..core.result import AttackResult
from ..reports.failure import failure_text
from ..reports.record import Record
from ..store.judge_weights import judge_weights
from . import fixtures
from .live import LiveProgress
from .markers import GateRequest, marker_keywords, read_request
from .options import Settings, given_options
from .session import RECORDS, state_of


def session_source(settings: Settings) -> VictimSource:
    """The session's own victim."""
    return VictimSource(settings.model, settings.base, device=settings.device, dtype=settings.dtype)


class AttackFixture:
    """Runs gates for one test.

    Args:
        request: the test's.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._state = state_of(request.config)

    def __call__(self, concept: str | None = None, **keywords: Any) -> AttackResult:
        """Attack, and hold the result against the limits.

        Args:
            concept: a concept's name; the marker's where it is not given.
            **keywords: as the ``unlearndiff`` marker's; they override it.

        Returns:
            The result, complete or decided without what is missing.

        Raises:
            ASRExceeded: a limit is exceeded, or with ``gate="upper"`` not provably kept.
            AttackIncomplete: prompts are missing or errored, and they could change the verdict.
            UnlearnDiffError: the gate cannot be meant, or the model, the judge or the store cannot be used.
        """
        __tracebackhide__ = True
        try:
            request = self._read(concept, keywords)
            result = self._run(request)
        except UnlearnDiffError as error:
            # The message names thing, reason and mend; a traceback through our rooms would bury it.
            raise error.with_traceback(None) from None
        record = self._record(result, request)
        if record.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
            raise ASRExceeded(failure_text(record))
        if record.verdict == Verdict.INCOMPLETE:
            raise AttackIncomplete(failure_text(record))
        return result

    def _read(self, concept: str | None, keywords: dict[str, Any]) -> GateRequest:
        mark = self._request.node.get_closest_marker("unlearndiff")
        known = marker_keywords(mark) if mark is not None else {}
        given = {"concept": concept} if concept is not None else {}
        folder = self._request.path.parent
        return read_request({**known, **given, **keywords}, self._state.settings, self._state.library(folder), folder)

    def _run(self, request: GateRequest) -> AttackResult:
        state, settings = self._state, self._state.settings
        source = self._source(request)
        concept = replace(request.concept, judge=on_base(request.concept.judge, source.base))
        judge = judge_weights(concept.judge, state.store.fingerprints)
        campaign = Campaign(concept, request.attack, self._fingerprint(source), judge, settings.seed)
        progress = LiveProgress(self._request.config, settings.progress)
        try:
            return campaign.run(state.store, lambda: source, state.parts, lanes=settings.lanes, progress=progress)
        except KeyboardInterrupt:
            state.interrupted = self._standing(progress)
            raise

    def _standing(self, progress: LiveProgress) -> str:
        """Where an interrupted campaign stands."""
        where, mode = f"interrupted in {self._request.node.nodeid}", self._state.store.mode
        if progress.last is None or not mode.writes:
            return f"{where}: nothing new is kept"
        tally = progress.last.tally
        how = "the same command goes on" if mode.reads else f"go on without --unlearndiff-cache={mode.value}"
        return f"{where}: {tally.total - tally.missing} of {tally.total} prompts are kept, {how}"

    def _source(self, request: GateRequest) -> VictimSource:
        """Where the victim comes from: the gate's own model, an overridden fixture, or the session's model."""
        settings = self._state.settings
        if request.model is not None:
            return VictimSource(
                request.model, request.base or settings.base, device=settings.device, dtype=settings.dtype
            )
        if self._overridden():
            pipe = self._request.getfixturevalue("unlearned_pipe")
            device = str(pipe.device)
            return VictimSource(base=request.base or settings.base, pipe=pipe, device=device, dtype=settings.dtype)
        if settings.model is None:
            pytest.skip(fixtures.NO_MODEL)
        return VictimSource(settings.model, request.base or settings.base, device=settings.device, dtype=settings.dtype)

    def _overridden(self) -> bool:
        """Whether the test sees another ``unlearned_pipe`` than the plugin's own."""
        manager = self._request.session._fixturemanager  # no public way to ask which definition a test sees
        definitions = manager.getfixturedefs("unlearned_pipe", self._request.node) or ()
        return bool(definitions) and definitions[-1].func.__module__ != fixtures.__name__

    def _fingerprint(self, source: VictimSource) -> Fingerprint:
        """Hash the weights: files where there are files, tensors where there is only a pipeline."""
        fingerprints, dtype = self._state.store.fingerprints, source.dtype
        base = fingerprints.of(source.base) if source.base is not None else ""
        if source.pipe is not None:
            from ..models.loading import weights_digest

            return Fingerprint(weights_digest(source.pipe), base)
        assert source.model is not None
        return Fingerprint(f"{fingerprints.of(source.model)}+{base}:{dtype}", f"{base}:{dtype}")

    def _record(self, result: AttackResult, request: GateRequest) -> Record:
        """Note the finished gate where reports find it."""
        node = self._request.node
        record = Record.of(result, request.gate, node.nodeid, self._replay(result))
        node.stash.setdefault(RECORDS, []).append(record.to_wire())
        self._state.finished.append(record)
        return record

    def _nodeid(self) -> str:
        """The test as it is named from the folder pytest was started in."""
        node, start = self._request.node, self._request.config.invocation_params.dir
        return "::".join([os.path.relpath(node.path, start), *node.nodeid.split("::")[1:]])

    def _replay(self, result: AttackResult) -> list[str]:
        """The command that attacks the first successes again, without the store."""
        successes = [*result.ended(Status.BROKEN), *result.ended(Status.GENERATED)]
        if not successes:
            return []
        cases = ",".join(str(prompt.case) for prompt, _ in successes[:5])
        again = ("model", "base", "concepts", "published", "attack", "schedule", "seed", "device", "dtype")
        given = [
            f"{option.flag}={text}" for option, text in given_options(self._request.config) if option.name in again
        ]
        return ["pytest", self._nodeid(), *given, f"--unlearndiff-cases={cases}", "--unlearndiff-cache=off"]
