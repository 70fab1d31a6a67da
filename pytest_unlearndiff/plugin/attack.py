"""What the ``unlearndiff_attack`` fixture does when a test calls it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ..core.errors import ASRExceeded, AttackIncomplete, ModelError, UnlearnDiffError
from ..core.gate import Verdict
from ..core.judge_options import on_base
from ..core.outcome import Counts, Outcome, Status
from ..core.result import AttackResult
from ..core.versioned_pipeline import without_version
from ..reports.failure import CASES, REPEATED, failure_text
from ..reports.gate_report import GateReport
from ..reports.junit import properties
from ..runs.campaign import Campaign
from ..runs.model_cache import Fingerprint, ModelSpec
from ..runs.stop import RUN_ALL, StopCondition
from ..sources.base_guess import guess_base
from ..sources.import_string import is_import_string
from ..sources.judge_files import judge_weights
from .fixtures import NO_MODEL, overridden
from .markers import GateRequest, marker_keywords, read_request
from .names import RETENTION_FIXTURE as RETENTION
from .running import BUDGET_TOO_SHORT, BUDGET_USED, interrupted, run_campaign, stopped
from .session import RECORDS, RETAINED, SessionState, state_of
from .settings import Settings, command_line_options, without_secrets, write_option


def session_source(settings: Settings) -> ModelSpec:
    """The session's own victim."""
    return _source(settings.model, settings.base, settings, settings.model_version or "")


def gate_source(request: GateRequest, settings: Settings) -> ModelSpec:
    """The victim a gate names, or else the session's, which is the one that the session's version is of."""
    version = settings.model_version or "" if request.model is None else ""
    return _source(request.model or settings.model, request.base or settings.base, settings, version)


def _source(model: Path | None, base: Path | None, settings: Settings, version: str) -> ModelSpec:
    """A victim; where no base is given, the one its checkpoint tells of, if that is on this machine."""
    if base is None and model is not None and (family := guess_base(model)) is not None:
        assumed = str(family)
        return ModelSpec(model, family.folder(), version=version, **settings.loading, assumed=assumed)
    return ModelSpec(model, base, version=version, **settings.loading)


def campaign_of(request: GateRequest, source: ModelSpec, state: SessionState) -> Campaign:
    """The campaign that answers a gate."""
    concept = replace(request.concept, judge=on_base(request.concept.judge, source.base))
    judge = judge_weights(concept.judge, state.store.fingerprints)
    fingerprint = Fingerprint.of(source, state.store.fingerprints, concept.images)
    return Campaign(concept, request.attack, fingerprint, judge, state.settings.seed)


def ending_of(request: GateRequest, state: SessionState) -> StopCondition:
    """When a gate's campaign leaves the rest of its prompts alone."""
    exhaustive = request.exhaustive or state.settings.exhaustive
    settled = RUN_ALL.settled if exhaustive else request.gate.is_decided
    return StopCondition(settled, state.deadline, BUDGET_USED, BUDGET_TOO_SHORT)


# What decides outcomes, and which gates there are.
_REPLAYED = (
    "model", "model_version", "base", "concepts", "concept", "max_asr", "prompt_sets", "attack", "schedule", "loss",
    "seed", "device", "dtype", "trust_pickle", "partial", "negative_prompt", "sld", "defense", "sld_warmup",
    "safety_checker",
)  # fmt: skip


_SUITE = Path(__file__).resolve().parent.parent / "suite.py"


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
            raise AttackIncomplete(failure_text(record)) from result.cause
        return result

    def _read(self, concept: str | None, keywords: dict[str, Any]) -> GateRequest:
        mark = self._request.node.get_closest_marker("unlearndiff")
        known = marker_keywords(mark) if mark is not None else {}
        given = {"concept": concept} if concept is not None else {}
        folder = self._request.path.parent
        return read_request({**known, **given, **keywords}, self._state.settings, self._state.library(folder), folder)

    def _run(self, request: GateRequest) -> AttackResult:
        """Attack what is missing.

        Whatever stops it leaves the gate in the report, with what is known: as INCOMPLETE unless that fails it.
        """
        source = self._source(request)
        campaign = campaign_of(request, source, self._state)
        may_pass: Callable[[Counts], bool] = lambda tally: request.gate.verdict(tally) is not Verdict.FAIL  # noqa: E731
        try:
            result = run_campaign(
                campaign,
                source,
                self._request.node,
                ending=ending_of(request, self._state),
                observe=self._observe,
                control=may_pass if source.base is not None or campaign.concept.images else None,
            )
            return replace(result, victim=source.title)
        except (KeyboardInterrupt, pytest.exit.Exception) as error:
            self._record(interrupted(campaign, error, self._state, source.title), request)
            raise
        except BaseException as error:  # pytest-timeout fails the test from a signal
            self._record(replace(stopped(campaign, error, self._state), victim=source.title), request)
            raise

    def _observe(self, outcome: Outcome) -> None:
        node = self._request.node
        node.ihook.pytest_unlearndiff_outcome(config=node.config, nodeid=node.nodeid, outcome=outcome)

    def _source(self, request: GateRequest) -> ModelSpec:
        """Where the victim comes from: the gate's own model, an overridden fixture, or the session's model."""
        settings = self._state.settings
        if request.model is None and overridden(self._request.session, self._request.node):
            source = ModelSpec(base=request.base or settings.base, version=settings.model_version or "")
            giver = "the unlearned_pipe fixture"
            return self._given(source, self._request.getfixturevalue("unlearned_pipe"), giver, self._fixture)
        if request.model is None and settings.model is None:
            pytest.skip(NO_MODEL)
        source = gate_source(request, settings)
        if is_import_string(source.model):
            giver = str(source.model)
            return self._given(source, self._state.parts.made(giver), giver, giver)
        return source

    @property
    def _fixture(self) -> str:
        """Which ``unlearned_pipe`` it is: another folder's, or another parameter's, may be another pipeline."""
        node = self._request.node
        definition = self._request.session._fixturemanager.getfixturedefs("unlearned_pipe", node)
        folder = (definition[-1].baseid if definition else "") or "."
        parameters = getattr(node, "callspec", None)
        return f"unlearned_pipe of {folder}" + (f" [{parameters.id}]" if parameters is not None else "")

    def _given(self, source: ModelSpec, given: Any, giver: str, which: str) -> ModelSpec:
        """A victim that somebody else made, with the other models where that is.

        Args:
            source: where the rest comes from, and the session's version of it.
            given: the pipeline, perhaps with a version of its own.
            giver: who made it, for people.
            which: the same so that it tells this pipeline from others that the session's version may be of.

        Raises:
            ModelError: it is nowhere, and so no pipeline; or it has two versions.
        """
        pipe, version = without_version(given)
        if not hasattr(pipe, "device"):
            raise ModelError(
                f"{giver} gave {pipe!r:.80}, which is no pipeline: return a StableDiffusionPipeline or "
                "StableDiffusionXLPipeline, or one of them as pytest_unlearndiff.VersionedPipeline(pipe, 'TEXT')"
            )
        if version and source.version not in ("", version):
            raise ModelError(
                f"{giver} gave a pipeline of version {version!r}, and --unlearndiff-model-version says "
                f"{source.version!r}: give one of them"
            )
        beside = self._state.settings.loading_on(str(pipe.device))
        whose = which if source.version and not version else ""
        return replace(source, pipe=pipe, version=version or source.version, version_of=whose, **beside)

    def _record(self, result: AttackResult, request: GateRequest) -> GateReport:
        """Note the finished gate where reports find it."""
        node = self._request.node
        path, line, _ = node.location
        place = path, 0 if line is None else line + 1
        replay = self.replay(result, *request.gate.offenders(result.tally))
        record = GateReport.of(result, request.gate, node.nodeid, replay, place)
        record = replace(record, images=self._images(result), retention_gated=None if self._retains else False)
        node.stash.setdefault(RECORDS, []).append(record.to_wire())
        node.user_properties += properties(record)
        self._state.finished.append(record)
        return record

    @property
    def _retains(self) -> bool:
        """Whether a test of this session may gate what a model must keep; which model, is known once it has run."""
        return any(RETENTION in getattr(item, "fixturenames", ()) for item in self._request.session.items)

    def _images(self, result: AttackResult) -> str:
        """The folder of a campaign's thumbnails, seen from where pytest was started; empty where there is none."""
        folder = self._state.store.campaign_by_digest(result.concept, result.key).folder / "images"
        return os.path.relpath(folder, self._request.config.invocation_params.dir) if folder.is_dir() else ""

    def _named(self, concept: str) -> list[str]:
        """The test as it is named from the folder pytest was started in."""
        node, start = self._request.node, self._request.config.invocation_params.dir
        if node.path == _SUITE:
            return ["--pyargs", "pytest_unlearndiff.suite", f"--unlearndiff-concept={concept}"]
        return ["::".join([os.path.relpath(node.path, start), *node.nodeid.split("::")[1:]])]

    @property
    def _gates(self) -> int:
        """Gates of the test, as far as its markers name them or they have been called."""
        node = self._request.node
        marked = (node.get_closest_marker("unlearndiff") is not None) + len([*node.iter_markers("unlearndiff_retains")])
        finished = sum(len(node.stash.get(kind, [])) for kind in (RECORDS, RETAINED))
        return max(marked, finished + 1)

    def replay(self, result: AttackResult, *statuses: Status) -> list[str]:
        """The command that repeats the first prompts that ended in one of these ways, without the store.

        There is none for one of several gates of a test, since case numbers would be those of all of them.
        """
        prompts = [prompt for status in statuses for prompt, _ in result.ended(status)]
        if not prompts or self._gates > 1:
            return []
        cases = ",".join(str(prompt.case) for prompt in prompts[:REPEATED])
        named = self._named(result.concept)
        replayed = [name for name in _REPLAYED if name != "concept" or len(named) == 1]
        given = [
            write_option(option, without_secrets(text))
            for option, text in command_line_options(self._request.config)
            if option.name in replayed
        ]
        return [
            "pytest",
            *named,
            *filter(None, given),
            f"{CASES}{cases}",
            "--unlearndiff-cache=off",
        ]
