"""What the ``unlearndiff_retention`` fixture does when a test calls it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import pytest

from ..core.attack_config import DEFAULT_LOSS, NO_ATTACK, AttackConfig
from ..core.concept_file import ConceptLibrary
from ..core.errors import AttackIncomplete, ErrorCollector, GateError, RetentionLost, UnlearnDiffError
from ..core.gate import Gate, Verdict
from ..core.outcome import Status
from ..core.rate import parse_limit
from ..core.result import AttackResult, Retention
from ..core.untrusted import hint, shown
from ..reports.retention import RetentionReport, retention_properties, retention_text
from ..runs.campaign import Campaign
from ..runs.model_cache import ModelSpec
from ..runs.positive_control import base_campaign
from ..runs.stop import StopCondition
from .attack import AttackFixture, campaign_of
from .markers import GateRequest, read_request
from .names import RETENTION_MARK as MARK
from .preflight import foreseen
from .running import BUDGET_TOO_SHORT, BUDGET_USED, interrupted, run_campaign
from .session import RETAINED, SessionState, state_of
from .settings import Settings

_OWN = ("min_rate", "max_loss", "gate", "confidence")
_SHARED = ("concept", "prompts", "model", "base")


@dataclass(frozen=True)
class RetentionRequest:
    """One retention gate, checked.

    Attributes:
        shared: concept, model and base, as an attack gate has them.
        gate: the limits.
    """

    shared: GateRequest
    gate: Gate


def read_retention(
    keywords: Mapping[str, Any], settings: Settings, library: ConceptLibrary, folder: Path
) -> RetentionRequest:
    """Check a retention gate's keywords and fill in what the session says.

    Raises:
        GateError: every mistake in the gate, one a line.
    """
    known = (*_SHARED, *_OWN)
    unknown = (f"{MARK} has no keyword {shown(name)}: {hint(name, known)}" for name in keywords if name not in known)
    mistakes = ErrorCollector(unknown)
    # Nothing is attacked, so the session's attack, its loss and what it replays are none of its affair.
    given = {name: value for name, value in keywords.items() if name in _SHARED}
    given |= {"attack": NO_ATTACK, "loss": DEFAULT_LOSS}
    shared = mistakes.collect(lambda: read_request(given, settings, library, folder))
    gate = mistakes.collect(lambda: _gate(keywords))
    if gate is not None and shared is not None:
        prompts = _trials(shared, settings)
        if prompts is not None:
            mistakes.collect(partial(gate.check_support, prompts))
    if shared is None or gate is None or mistakes:
        raise GateError("\n".join(mistakes))
    return RetentionRequest(shared, gate)


def _trials(request: GateRequest, settings: Settings) -> int | None:
    """Prompts that a limit has to be shown on; None where a replay looks at some again."""
    return len(request.concept.prompts) if settings.case_numbers is None else None


def _gate(keywords: Mapping[str, Any]) -> Gate:
    given, mistakes = [name for name in ("min_rate", "max_loss") if keywords.get(name) is not None], ErrorCollector()
    found = {name: mistakes.collect(partial(parse_limit, keywords[name], name=name)) for name in given}
    reading, confidence = keywords.get("gate", "point"), keywords.get("confidence", 0.95)
    if not isinstance(reading, str) or reading not in ("point", "lower"):
        mistakes.append(f"gate={shown(reading)} must be 'point' or 'lower'")
    if not isinstance(confidence, float) or not 0 < confidence < 1:
        mistakes.append(f"confidence={shown(confidence)} must be a number between 0 and 1, such as 0.95")
    if mistakes:
        raise GateError("\n".join(mistakes))
    limits = {name: limit for name, limit in found.items() if limit is not None}
    return Gate(**limits, reading=reading, confidence=confidence)


def mark_keywords(mark: pytest.Mark) -> dict[str, Any]:
    """A marker's arguments by keyword.

    Raises:
        GateError: more than the concept is given by position.
    """
    if len(mark.args) > 1:
        raise GateError(f"{MARK} takes the concept by position, the rest by keyword; found {shown(mark.args)}")
    return {**({"concept": mark.args[0]} if mark.args else {}), **mark.kwargs}


def check_marks(item: pytest.Item, state: SessionState) -> list[str]:
    """What is wrong with a collected item's retention gates."""
    folder, problems = item.path.parent, list[str]()
    for mark in item.iter_markers(MARK):
        try:
            request = read_retention(mark_keywords(mark), state.settings, state.library(folder), folder)
            mistakes = list(foreseen(request.shared, item, state))
        except UnlearnDiffError as error:
            mistakes = str(error).split("\n")
        problems += [f"{item.nodeid}: {mistake}" for mistake in mistakes]
    if "unlearndiff_retention" not in getattr(item, "fixturenames", ()):
        problems.append(f"{item.nodeid}: has an {MARK} marker but never asks for the unlearndiff_retention fixture")
    return problems


def sides_of(request: GateRequest, source: ModelSpec, state: SessionState) -> tuple[Campaign, Campaign | None]:
    """The victim's campaign that answers a retention gate, and the base's where there is a base."""
    # Target images are for attacks; what should be kept is compared with what the base itself draws.
    asked = campaign_of(replace(request, concept=replace(request.concept, images={})), source, state)
    victim = Campaign(asked.concept, AttackConfig(NO_ATTACK), replace(asked.fingerprint, target=""), asked.judge)
    if source.base is None:
        return victim, None
    return victim, base_campaign(asked.concept, asked.fingerprint.target, asked.judge)


class RetentionFixture:
    """Runs retention gates for one test.

    Args:
        request: the test's.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._state = state_of(request.config)
        self._attack = AttackFixture(request)

    @overload
    def __call__(self, concept: None = None, **keywords: Any) -> list[Retention]: ...

    @overload
    def __call__(self, concept: str, **keywords: Any) -> Retention: ...

    def __call__(self, concept: str | None = None, **keywords: Any) -> Retention | list[Retention]:
        """Draw, judge and compare, and hold what was kept against the limits.

        Args:
            concept: a concept's name; every ``unlearndiff_retains`` marker's where it is not given.
            **keywords: as the marker's; they override it.

        Returns:
            What was kept of the concept; of each, in the markers' order, where none is given.

        Raises:
            RetentionLost: a limit is not kept.
            AttackIncomplete: images are missing, or the base itself does not reach what is asked.
            UnlearnDiffError: the gate cannot be meant, or the model, the judge or the store cannot be used.
        """
        __tracebackhide__ = True
        try:
            requests = self._read(concept, keywords)
            found = [self._run(request.shared, request.gate) for request in requests]
        except UnlearnDiffError as error:
            raise error.with_traceback(None) from None
        records = [record for _, record in found]
        if broken := [record for record in records if not record.passed]:
            lost = any(record.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE) for record in broken)
            raise (RetentionLost if lost else AttackIncomplete)("\n".join(map(retention_text, broken)))
        kept = [retention for retention, _ in found]
        return kept if concept is None else kept[0]

    def _read(self, concept: str | None, keywords: dict[str, Any]) -> list[RetentionRequest]:
        marks = [mark_keywords(mark) for mark in self._request.node.iter_markers(MARK)][::-1]
        if concept is not None:
            marks = [next((known for known in marks if known.get("concept") == concept), {}) | {"concept": concept}]
        folder, state = self._request.path.parent, self._state
        library = state.library(folder)
        return [read_retention(known | keywords, state.settings, library, folder) for known in marks or [{}]]

    def _run(self, request: GateRequest, gate: Gate) -> tuple[Retention, RetentionReport]:
        """The same un-attacked prompts on the victim and on the base; Ctrl-C leaves in the report what is known."""
        source = self._attack._source(request)
        if gate.max_loss is not None and source.base is None:
            raise GateError("max_loss compares with the un-erased model: give it with --unlearndiff-base")
        victim, base = sides_of(request, source, self._state)
        try:
            retention = self._drawn(victim, base, source)
        except (KeyboardInterrupt, pytest.exit.Exception) as error:
            kept = interrupted(victim, error, self._state, source.title)
            of_base = interrupted(base, error, self._state, source.title) if base is not None else None
            self._record(Retention(kept, of_base), gate)
            raise
        return retention, self._record(retention, gate)

    def _drawn(self, victim: Campaign, base: Campaign | None, source: ModelSpec) -> Retention:
        kept = self._draw(victim, source)
        if base is None:
            return Retention(kept)
        of_base = self._draw(base, source.unerased)
        return Retention(kept, of_base)

    def _draw(self, campaign: Campaign, source: ModelSpec) -> AttackResult:
        ending = StopCondition(deadline=self._state.deadline, mend=BUDGET_USED, too_short=BUDGET_TOO_SHORT)
        result = run_campaign(campaign, source, self._request.node, ending=ending)
        return replace(result, victim=source.title)

    def _record(self, retention: Retention, gate: Gate) -> RetentionReport:
        """Note the finished gate where reports find it."""
        replay = self._attack.replay(retention.victim, Status.RESISTED, Status.BLOCKED)
        record = RetentionReport.of(retention, gate, self._request.node.nodeid, replay)
        self._request.node.stash.setdefault(RETAINED, []).append(record.to_wire())
        self._request.node.user_properties += retention_properties(record)
        return record
