"""The fixtures that run gates: attack or draw, decide, and report."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import pytest

from ..core.attack_config import NO_ATTACK, AttackConfig
from ..core.errors import (
    ASRExceeded,
    AttackIncomplete,
    GateError,
    LimitExceeded,
    RecoveryExceeded,
    RetentionLost,
    UnlearnDiffError,
)
from ..core.gate import Verdict
from ..core.info import Threat
from ..core.judge_options import on_base
from ..core.outcome import Outcome, Status
from ..core.result import AttackResult, Retention
from ..reports.failure_text import CASES, REPLAYED, failure_text
from ..reports.gate_report import GateReport
from ..reports.junit import properties
from ..reports.quality_report import QualityReport
from ..runs.campaign import RUN_ALL, Campaign, StopCondition
from ..runs.model_spec import Fingerprint, ModelSpec
from ..runs.positive_control import base_campaign
from ..sources.resolve import judge_weights
from .markers import ATTACK, RETENTION, GateRequest, Marker
from .model_under_test import fitted, load_source
from .option_parsers import NO_REPORT
from .quality_marker import QUALITY
from .requests import Request, marker_keywords, read_request, request_of
from .running import BUDGET_TOO_SHORT, BUDGET_USED, result_after_error, result_after_interrupt, run_campaign
from .session import RECORDS, SessionState, state_of
from .settings import command_line_options, without_secrets, write_option

# What decides outcomes, and which gates there are.
_REPLAYED = (
    "model", "model_version", "base", "concepts", "concept", "suite", "max_asr", "max_recovery", "prompt_sets",
    "attack", "schedule", "images_per_prompt", "loss", "seed", "device", "dtype", "trust_pickle", "partial",
    "negative_prompt", "sld", "defense", "sld_warmup", "safety_checker",
)  # fmt: skip

_SUITE = Path(__file__).resolve().parent.parent / "suite.py"


def campaign_of(request: Request, source: ModelSpec, state: SessionState) -> Campaign:
    """Return the campaign that answers a gate on a concept that must be gone, or draws the captions of another."""
    concept, attack = fitted(request, source)
    concept = replace(concept, judge=on_base(concept.judge, source.base))
    judge = judge_weights(concept.judge, state.store.fingerprints)
    fingerprint = Fingerprint.of(source, state.store.fingerprints, concept.images)
    return Campaign(concept, attack, fingerprint, judge, state.settings.seed)


def campaigns_of_sides(
    request: GateRequest, source: ModelSpec, state: SessionState
) -> tuple[Campaign, Campaign | None]:
    """Return the campaigns that answer a gate on a concept that must be kept: the victim's, and the base's if any."""
    # Target images are for attacks; what must be kept is compared with what the base itself draws.
    asked = campaign_of(replace(request, concept=replace(request.concept, images={})), source, state)
    fingerprint = replace(asked.fingerprint, targets_digest="")
    victim = Campaign(asked.concept, AttackConfig(NO_ATTACK), fingerprint, asked.judge)
    if source.base is None:
        return victim, None
    return victim, base_campaign(asked.concept, asked.fingerprint.targets_digest, asked.judge)


def stop_of(request: GateRequest, state: SessionState) -> StopCondition:
    """Return when a gate's campaign leaves the rest of its prompts alone."""
    exhaustive = request.kept or request.exhaustive or state.settings.exhaustive
    settled = RUN_ALL.is_decided if exhaustive else request.gate.is_decided
    return StopCondition(settled, state.deadline, BUDGET_USED, BUDGET_TOO_SHORT)


class GateFixture:
    """Runs gates for one test.

    Args:
        test: the fixture's request.
    """

    marker: Marker

    def __init__(self, test: pytest.FixtureRequest) -> None:
        self._test = test
        self._node = test.node
        self._state = state_of(test.config)
        self._fresh: Counter[str] = Counter()
        self._began = time.monotonic()

    def _requests(self, subject: object, keywords: dict[str, Any]) -> list[Request]:
        """Return the gates of the test's markers, with what a call overrides; only the closest attack marker counts.

        Args:
            subject: concept or captions; None for those of the markers.
            keywords: of the call.
        """
        name, folder, by_position = self.marker.name, self._test.path.parent, self.marker.subject
        library = self._state.library(folder)
        marks = [*self._node.iter_markers(name)][::-1]
        if not self.marker.several:
            marks = marks[-1:]
        if subject is None and not keywords and marks:
            return [request_of(mark, self._node, self._state.settings, library) for mark in marks]
        defaults = [marker_keywords(mark) for mark in marks] or [{}]
        if subject is not None:
            same = (kw for kw in defaults if kw.get(by_position) == subject or not self.marker.several)
            defaults = [next(same, {}) | {by_position: subject}]
        settings = self._state.settings
        return [read_request(self.marker, marked | keywords, settings, library, folder) for marked in defaults]

    def _runs(self, concept: str | None, keywords: dict[str, Any]) -> list[tuple[AttackResult | Retention, GateReport]]:
        return [self._run(r) for r in self._requests(concept, keywords) if isinstance(r, GateRequest)]

    def _run(self, request: GateRequest) -> tuple[AttackResult | Retention, GateReport]:
        """Attack or draw what is missing, and decide.

        Whatever stops it leaves the gate in the report, with what is known: as INCOMPLETE unless that fails it.
        """
        source = load_source(request, self._test, self._state)
        if request.gate.max_loss is not None and source.base is None:
            raise GateError("max_loss compares with the un-erased model: give it with --unlearndiff-base")
        sides: list[Campaign | None] = [campaign_of(request, source, self._state)]
        if request.kept:
            sides = [*campaigns_of_sides(request, source, self._state)]
        try:
            results = [
                None if side is None else self._run_side(side, source if number == 0 else source.base_only, request)
                for number, side in enumerate(sides)
            ]
        except BaseException as error:  # such as KeyboardInterrupt; pytest-timeout fails the test from a signal
            by_user = isinstance(error, (KeyboardInterrupt, pytest.exit.Exception))
            partial_result = result_after_interrupt if by_user else result_after_error
            results = [
                None if side is None else self._told(partial_result(side, error, self._state), source) for side in sides
            ]
            self._record(_joined(results, kept=request.kept), request, source)
            raise
        result = _joined(results, kept=request.kept)
        return result, self._record(result, request, source)

    def _run_side(self, campaign: Campaign, source: ModelSpec, request: GateRequest) -> AttackResult:
        stop = stop_of(request, self._state)
        observe = partial(self._observe, campaign.key.digest, hook=not request.kept)
        if request.kept:
            return replace(run_campaign(campaign, source, self._node, stop, observe), victim=source.label)
        has_control = source.base is not None or bool(campaign.concept.images)
        may_pass = request.gate.may_pass if has_control else None
        result = run_campaign(campaign, source, self._node, stop, observe, may_pass)
        return replace(result, victim=source.label)

    def _observe(self, key: str, outcome: Outcome, *, hook: bool) -> None:
        self._fresh[key] += 1
        if hook:
            node = self._node
            node.ihook.pytest_unlearndiff_outcome(config=node.config, nodeid=node.nodeid, outcome=outcome)

    def _told(self, result: AttackResult, source: ModelSpec) -> AttackResult:
        """Add to what the store holds of a campaign that was stopped which of it is new."""
        fresh = min(self._fresh[result.key], result.counts.total - result.counts.missing)
        return replace(result, victim=source.label, fresh=fresh, seconds=time.monotonic() - self._began)

    def _record(self, result: AttackResult | Retention, request: GateRequest, source: ModelSpec) -> GateReport:
        """Keep the report of a finished gate where pytest's reports and comparisons find it."""
        node, victim = self._node, result.victim if isinstance(result, Retention) else result
        report = GateReport.of(
            result,
            request.gate,
            node.nodeid,
            replay=self._replay(victim, request.gate.offenders(victim.counts)),
            prompt_set=request.concept.prompt_set,
            images=self._images(victim),
            **self._place(),
            **self._base_facts(source),
            retention_gated=False if isinstance(result, AttackResult) and not self._may_retain else None,
        )
        node.stash.setdefault(RECORDS, []).append(report)
        node.user_properties += properties(report)
        self._state.finished.append(report)
        return report

    def _place(self) -> dict[str, Any]:
        """File and line of the test."""
        path, line, _ = self._node.location
        return {"path": path, "line": 0 if line is None else line + 1}

    def _base_facts(self, source: ModelSpec) -> dict[str, str]:
        """Name and content hash of the base."""
        fingerprint = self._state.store.fingerprints.of(source.base) if source.base is not None else ""
        return {"base": source.base_label, "base_fingerprint": fingerprint}

    @property
    def _may_retain(self) -> bool:
        """True where a test of this session may gate what a model must keep; its model is known once it has run."""
        keeping = {RETENTION.fixture, QUALITY.fixture}
        return any(keeping.intersection(getattr(item, "fixturenames", ())) for item in self._test.session.items)

    def _images(self, result: AttackResult) -> str:
        """Return the folder of thumbnails, from where pytest was started; empty where there is none."""
        folder = self._state.store.campaign_by_digest(result.concept, result.key).folder / "images"
        return os.path.relpath(folder, self._test.config.invocation_params.dir) if folder.is_dir() else ""

    def _replay(self, result: AttackResult, statuses: Sequence[Status]) -> list[str]:
        """Return the command that repeats the first prompts that ended in one of these ways, without the store.

        There is none for one of several gates of a test, since case numbers would be those of all of them.
        """
        prompts = [prompt for status in statuses for prompt, _ in result.ended(status)]
        if not prompts or self._number_of_gates() > 1:
            return []
        node, start = self._node, self._test.config.invocation_params.dir
        if node.path == _SUITE:
            names = ["--pyargs", "pytest_unlearndiff.suite", f"--unlearndiff-concept={result.concept}"]
        else:
            names = ["::".join([os.path.relpath(node.path, start), *node.nodeid.split("::")[1:]])]
        replayed = [name for name in _REPLAYED if name != "concept" or len(names) == 1]
        options = [
            write_option(option, without_secrets(text))
            for option, text in command_line_options(self._test.config)
            if option.name in replayed
        ]
        cases = ",".join(str(prompt.case) for prompt in prompts[:REPLAYED])
        # Reports that an ini file names are of all gates, and stay.
        apart = ["--unlearndiff-cache=off", f"--unlearndiff-report={NO_REPORT}"]
        return ["pytest", *names, *filter(None, options), f"{CASES}{cases}", *apart]

    def _number_of_gates(self) -> int:
        """Count the gates of the test, as far as its markers name them or they have been called."""
        several = (mark for name in (RETENTION.name, QUALITY.name) for mark in self._node.iter_markers(name))
        marked = (self._node.get_closest_marker(ATTACK.name) is not None) + len([*several])
        return max(marked, len(self._node.stash.get(RECORDS, [])) + 1)


class AttackFixture(GateFixture):
    """Runs gates on concepts that must be gone."""

    marker = ATTACK

    def __call__(self, concept: str | None = None, **keywords: Any) -> AttackResult:
        """Attack, and hold the result against the limits.

        Args:
            concept: a concept's name; the marker's where it is not given.
            **keywords: as the ``unlearndiff`` marker's; they override it.

        Returns:
            The result, complete or decided without what is missing.

        Raises:
            ASRExceeded: a limit is exceeded, or with ``gate="upper"`` not provably kept.
            RecoveryExceeded: the same, under an attack that leaves text.
            AttackIncomplete: prompts are missing or errored, and they could change the verdict.
            UnlearnDiffError: the gate is malformed, or the model, the judge or the store cannot be used.
        """
        __tracebackhide__ = True
        try:
            (result, report), *_ = self._runs(concept, keywords)
        except UnlearnDiffError as error:
            # The message names thing, reason and remedy; a traceback through this package would bury it.
            raise error.with_traceback(None) from None
        assert isinstance(result, AttackResult)
        if report.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
            exceeded = ASRExceeded if report.threat is Threat.TEXT else RecoveryExceeded
            raise exceeded(failure_text(report))
        if report.verdict is Verdict.INCOMPLETE:
            raise AttackIncomplete(failure_text(report)) from result.cause
        return result


class RetentionFixture(GateFixture):
    """Runs gates on concepts that must be kept."""

    marker = RETENTION

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
            The retention of the concept; of each, in the markers' order, where none is given.

        Raises:
            RetentionLost: a limit is not kept.
            AttackIncomplete: images are missing, or the base itself does not reach what is asked.
            UnlearnDiffError: the gate is malformed, or the model, the judge or the store cannot be used.
        """
        __tracebackhide__ = True
        try:
            runs = self._runs(concept, keywords)
        except UnlearnDiffError as error:
            raise error.with_traceback(None) from None
        raise_if_broken([report for _, report in runs], failure_text, RetentionLost)
        retained = [result for result, _ in runs if isinstance(result, Retention)]
        return retained if concept is None else retained[0]


def _joined(results: Sequence[AttackResult | None], *, kept: bool) -> AttackResult | Retention:
    """Join the results of the sides of a gate."""
    victim, *base = results
    assert victim is not None
    return Retention(victim, *base) if kept else victim


_Report = TypeVar("_Report", GateReport, QualityReport)


def raise_if_broken(reports: Sequence[_Report], tell: Callable[[_Report], str], lost: type[LimitExceeded]) -> None:
    """Fail a test of which some gates did not pass.

    Args:
        reports: of all its gates.
        tell: returns why one did not.
        lost: raised where a limit is not kept.

    Raises:
        LimitExceeded: of type ``lost``, with all that is to tell.
        AttackIncomplete: no limit is exceeded, but images are missing.
    """
    __tracebackhide__ = True
    if broken := [report for report in reports if not report.passed]:
        exceeded = any(report.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE) for report in broken)
        raise (lost if exceeded else AttackIncomplete)("\n".join(map(tell, broken)))
