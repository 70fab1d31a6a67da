"""The fixture that runs gates on image quality: draw, measure, decide, and report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, overload

import pytest

from ..core.errors import GateError, QualityLost, UnlearnDiffError
from ..core.quality import QualityResult
from ..core.result import AttackResult
from ..reports.junit import quality_properties
from ..reports.quality_report import OWN_REFERENCE, QualityReport, quality_failure
from ..runs.campaign import StopCondition
from ..runs.model_spec import ModelSpec
from ..runs.quality import QualityCampaigns
from .gate_run import GateFixture, campaign_of, raise_if_broken
from .model_under_test import NO_QUALITY_BASE, load_source
from .quality_marker import QUALITY, QualityRequest
from .running import BUDGET_TOO_SHORT, BUDGET_USED, result_after_error, result_after_interrupt, run_campaign
from .session import QUALITY_RECORDS, SessionState


def quality_campaigns(request: QualityRequest, source: ModelSpec, state: SessionState) -> QualityCampaigns:
    """Return the campaigns that answer a gate.

    Raises:
        GateError: there is no base.
    """
    if source.base is None:
        raise GateError(NO_QUALITY_BASE)
    asked = campaign_of(request, source, state)
    return QualityCampaigns.of(asked.concept, asked.fingerprint, asked.judge, request.reference)


class QualityFixture(GateFixture):
    """Runs gates on the quality of images of captions."""

    marker = QUALITY

    @overload
    def __call__(self, captions: None = None, **keywords: Any) -> list[QualityResult]: ...

    @overload
    def __call__(self, captions: object, **keywords: Any) -> QualityResult: ...

    def __call__(self, captions: object = None, **keywords: Any) -> QualityResult | list[QualityResult]:
        """Draw, measure and compare, and hold the figures against the limits.

        Args:
            captions: a file, a URL, a Hub data set or a mapping; every marker's where they are not given.
            **keywords: as the marker's; they override it.

        Returns:
            The measured images with their figures; of each marker, in their order, where no captions are given.

        Raises:
            QualityLost: a limit is not kept.
            AttackIncomplete: images are missing, or the base itself does not reach what is asked.
            UnlearnDiffError: the gate is malformed, or the model, a network or the store cannot be used.
        """
        __tracebackhide__ = True
        try:
            runs = [self._measure(r) for r in self._requests(captions, keywords) if isinstance(r, QualityRequest)]
        except UnlearnDiffError as error:
            raise error.with_traceback(None) from None
        raise_if_broken([report for _, report in runs], quality_failure, QualityLost)
        results = [result for result, _ in runs]
        return results if captions is None else results[0]

    def _measure(self, request: QualityRequest) -> tuple[QualityResult, QualityReport]:
        """Draw and measure what is missing, and decide.

        Whatever stops it leaves the gate in the report, with what is known: as INCOMPLETE.
        """
        source, state = load_source(request, self._test, self._state), self._state
        campaigns = quality_campaigns(request, source, state)
        stop = StopCondition(deadline=state.deadline, message=BUDGET_USED, message_nothing_done=BUDGET_TOO_SHORT)
        try:
            sides: list[AttackResult] = []
            for number, (_, campaign) in enumerate(campaigns.named):
                side = run_campaign(campaign, source if number == 0 else source.base_only, self._node, stop)
                sides.append(replace(side, victim=source.label))
            result = QualityResult.of(sides)
            if not result.obstacle and result.cause is None:
                figures = campaigns.figures(result, state.store, lambda: state.acquire_device(source).device)
                result = replace(result, figures=figures)
        except BaseException as error:  # such as KeyboardInterrupt; pytest-timeout fails the test from a signal
            by_user = isinstance(error, (KeyboardInterrupt, pytest.exit.Exception))
            partial_result = result_after_interrupt if by_user else result_after_error
            known = [
                replace(partial_result(campaign, error, state), victim=source.label) for _, campaign in campaigns.named
            ]
            self._report(QualityResult.of(known, error), request, source)
            raise
        return result, self._report(result, request, source)

    def _report(self, result: QualityResult, request: QualityRequest, source: ModelSpec) -> QualityReport:
        """Keep the report of a finished gate where pytest's reports find it."""
        options = request.concept.judge.options
        reference = OWN_REFERENCE if request.reference is None else str(request.reference)
        report = QualityReport.of(
            result,
            request.gate,
            self._node.nodeid,
            captions=request.name,
            features=options.get("features"),
            clip_model=options.get("clip"),
            reference=reference if "features" in options else None,
            prompt_set=request.concept.prompt_set,
            **self._place(),
            **self._base_facts(source),
        )
        self._node.stash.setdefault(QUALITY_RECORDS, []).append(report)
        self._node.user_properties += quality_properties(report)
        return report
