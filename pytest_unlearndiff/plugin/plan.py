"""--unlearndiff-plan: every gate, what the store knows of it, and what the rest costs; nothing is attacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from ..core.attack_config import is_unattacked
from ..core.device import Probe, foreseen_kind
from ..core.errors import JudgeError, ModelError, UnlearnDiffError, describe_error
from ..reports.text import format_duration, sanitize, table
from ..runs.campaign import RUN_ALL, Campaign, RunEstimate, StopCondition, estimate
from ..runs.forecast import estimate_from_probe
from ..runs.model_memory import weights_memory
from ..runs.model_spec import ModelSpec
from ..runs.positive_control import control_of, control_required, first_control_prompts
from ..runs.probe import probe
from ..sources.resolve import is_import_string
from ..store.store import Mode
from .gate_run import campaign_of, campaigns_of_sides, stop_of
from .markers import Marker
from .model_under_test import gate_source, is_overridden
from .quality_marker import QualityRequest
from .quality_run import quality_campaigns
from .requests import MARKERS, Request, request_of
from .session import SessionState, state_of

_COLUMNS = ("concept", "attack", "store", "left", "time")


class Planner:
    """Takes the place of the loop that runs tests."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Look into the store instead of running tests; errors of collection are left to pytest."""
        if session.testsfailed:
            return None
        self._lines, fails = plan(session, state_of(session.config))
        session.testsfailed = fails  # so that the exit status is that of the session that attacks
        return True

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the plan."""
        if self._lines:
            terminalreporter.section("unlearndiff plan")
            for line in self._lines:
                terminalreporter.line(line)


def install(config: pytest.Config) -> None:
    """Plan in this process, and start no workers for it."""
    if hasattr(config.option, "dist"):
        config.option.dist, config.option.tx = "no", []
    config.pluginmanager.register(Planner(), "unlearndiff-planner")


class NotForeseen(Exception):
    """Work of a gate that is not known before it runs."""


@dataclass(frozen=True)
class PlannedRun:
    """A campaign of a gate: its own, one side of what must be kept, or the base's for a positive control.

    Attributes:
        nodeid: the test.
        concept: model prompts are attacked or drawn.
        model: which model draws, where that is not plain.
        attack: how.
        key: of the campaign, which several gates may share.
        estimate: what the store knows, and what is left.
        prompts: origin of the prompts; empty where nobody says.
    """

    nodeid: str
    concept: str
    model: str
    attack: str
    key: str
    estimate: RunEstimate
    prompts: str = ""

    @property
    def images(self) -> bool:
        """True where un-attacked images are drawn for it, and nothing is attacked."""
        return bool(self.model) or is_unattacked(self.attack)

    @classmethod
    def of(cls, nodeid: str, campaign: Campaign, estimate: RunEstimate, model: str = "") -> PlannedRun:
        """Describe what a campaign would do for a test."""
        concept, attack = campaign.concept, campaign.attack.title
        return cls(nodeid, concept.name, model, attack, campaign.key.digest, estimate, str(concept.prompt_set))


@dataclass(frozen=True)
class Shared:
    """Remainder of a campaign that gates share: each of its prompts is attacked once.

    Attributes:
        gates: those that leave something of it.
    """

    gates: Sequence[PlannedRun]

    @property
    def left(self) -> int:
        """Prompts that one gate or another would attack."""
        return len(frozenset[str]().union(*(gate.estimate.missing for gate in self.gates)))

    @property
    def images(self) -> bool:
        """True where un-attacked images are drawn instead of prompts attacked."""
        return all(gate.images for gate in self.gates)

    @property
    def seconds(self) -> float | None:
        """Seconds they will take, as far as that is known."""
        rates = [gate.estimate.seconds / gate.estimate.left for gate in self.gates if gate.estimate.seconds is not None]
        return rates[0] * self.left if rates else None

    @property
    def most(self) -> float:
        """Seconds they will take where each resists to the end; 0 where nothing is known."""
        rates = [
            gate.estimate.worst_case_seconds / gate.estimate.left
            for gate in self.gates
            if gate.estimate.worst_case_seconds is not None
        ]
        return max(rates, default=0.0) * self.left


def plan_lines(gates: Sequence[PlannedRun], unknown: Sequence[tuple[str, str]]) -> list[str]:
    """Return a row per campaign and the totals, and name the tests whose gates cannot be foreseen.

    Args:
        gates: those that can.
        unknown: node ids of tests whose gates are not known before they run, with the reason.
    """
    rows = [
        (
            _name(gate),
            gate.attack,
            _store(gate.estimate),
            f"{gate.estimate.left}/{gate.estimate.counts.total}",
            _time(gate),
        )
        for gate in gates
    ]
    head, *body = table(_COLUMNS, rows)
    lines = [head] if rows else []
    for gate, row in zip(gates, body, strict=True):
        lines += [row, f"  {gate.nodeid}", *([f"  {sanitize(gate.prompts, 500)}"] if gate.prompts else [])]
        if gate.estimate.differs:
            lines.append(f"  the nearest campaign in the store differs in {', '.join(gate.estimate.differs)}")
        lines += [f"  {sanitize(note, 500)}" for note in gate.estimate.notes]
    lines += [f"{nodeid}: {reason}" for nodeid, reason in unknown]
    campaigns = {(gate.concept, gate.key) for gate in gates if gate.estimate.left}
    left = [
        Shared([gate for gate in gates if (gate.concept, gate.key) == campaign and gate.estimate.left])
        for campaign in campaigns
    ]
    durations = [seconds for rest in left if (seconds := rest.seconds) is not None]
    total = f", about {_between(sum(durations), sum(rest.most for rest in left))}" if durations else ""
    some = (
        f" (and {len(left) - len(durations)} gates of unknown length)"
        if len(durations) < len(left) and durations
        else ""
    )
    least = "at least " if unknown else ""
    prompts, images = (sum(rest.left for rest in left if rest.images is side) for side in (False, True))
    drawn = f" and {images} images to draw" if any(gate.images for gate in gates) else ""
    return [*lines, f"{least}{prompts} prompts to attack{drawn}{total}{some}"]


def _name(gate: PlannedRun) -> str:
    return f"{gate.concept} ({gate.model})" if gate.model else gate.concept


def _store(estimate: RunEstimate) -> str:
    if not estimate.left:
        return "hit" if not estimate.counts.missing else "decided"
    return "partial" if estimate.counts.missing < estimate.counts.total else "miss"


def _time(gate: PlannedRun) -> str:
    if not gate.estimate.left:
        return "-"
    if gate.estimate.seconds is None:
        return "?"
    return f"~{_between(gate.estimate.seconds, gate.estimate.worst_case_seconds or 0.0)}"


def _between(seconds: float, most: float) -> str:
    """Format how long it takes if prompts go as those before and, if longer, if each resists to the end."""
    least, longest = format_duration(seconds), format_duration(most)
    return f"{least}..{longest}" if most > seconds and longest != least else least


class Estimator:
    """Estimates campaigns from the store and, where it has no time of this kind of device, from a probe of the model.

    Args:
        state: of the session.

    Attributes:
        notes: what was measured, and why not.
        refused: models of which the session that attacks will refuse a part.
        models: what victims and their bases take in memory, for people.
    """

    def __init__(self, state: SessionState) -> None:
        self._state, settings = state, state.settings
        self._device = foreseen_kind(settings.device)
        self._may_probe = settings.workers is None and state.store.mode is not Mode.REQUIRE
        self._probes: dict[tuple[ModelSpec, bool], Probe | None] = {}
        self.notes: list[str] = []
        self.refused = 0
        self.models: dict[ModelSpec, str] = {}

    def __call__(self, campaign: Campaign, source: ModelSpec, stop: StopCondition = RUN_ALL) -> RunEstimate:
        """Estimate a campaign of a victim, or of its base.

        Raises:
            StoreError: the store cannot be read.
        """
        run = estimate(campaign, self._state.store, stop, device=self._device)
        if not (run.left and run.seconds is None and self._may_probe):
            return run
        key = source, campaign.attack.needs_target
        if key not in self._probes:
            self._probes[key] = self._probe(campaign, source)
        measured = self._probes[key]
        return run if measured is None else estimate_from_probe(campaign, run, measured)

    def _probe(self, campaign: Campaign, source: ModelSpec) -> Probe | None:
        try:
            measured = probe(campaign, source, self._state.models, self._state.store)
        except (ModelError, JudgeError) as error:
            self.refused += 1
            self.notes.append(f"{source.label} cannot be attacked: {describe_error(error)}")
            return None
        except Exception as error:  # such as a library or a device that only this machine lacks; a plan goes on
            self.notes.append(f"no time could be measured with {source.label}: {describe_error(error)}")
            return None
        memory = f", {measured.memory / 2**30:.1f} GiB of memory" if measured.memory else ""
        milliseconds = f"{1000 * measured.seconds:.3g} ms"
        self.notes.append(f"measured on {measured.device}: {milliseconds} a forward pass of {source.label}{memory}")
        return measured


def plan(session: pytest.Session, state: SessionState) -> tuple[list[str], int]:
    """Look into the store, and at the models.

    Returns:
        Lines that say what this session would attack and draw, and the memory that its models will take; and the number
        of gates and models that it would fail at.
    """
    runs: list[PlannedRun] = []
    fails = 0
    estimator = Estimator(state)
    unknown: list[tuple[str, str]] = []
    for item in session.items:
        for marker in MARKERS.values():
            if marker.fixture in getattr(item, "fixturenames", ()):
                marks: list[pytest.Mark | None] = [*reversed([*item.iter_markers(marker.name)])]
                for mark in (marks if marker.several else marks[-1:]) or [None]:
                    try:
                        runs += _runs_of(item, marker, mark, state, estimator)
                    except (NotForeseen, UnlearnDiffError) as reason:
                        fails += isinstance(reason, UnlearnDiffError)
                        unknown.append((item.nodeid, str(reason)))
    *lines, total = plan_lines(runs, unknown)
    if state.settings.workers is not None and ", about " in total:
        total += " in one process"
    notes = [sanitize(note, 500) for note in estimator.notes]
    lines += [*notes, total, *dict.fromkeys(filter(None, estimator.models.values()))]
    return lines, fails + estimator.refused


def _runs_of(
    item: pytest.Item, marker: Marker, mark: pytest.Mark | None, state: SessionState, estimator: Estimator
) -> Iterator[PlannedRun]:
    """Yield the campaigns of a gate, and note what its models take.

    Raises:
        NotForeseen: they are not known.
    """
    if mark is None:
        raise NotForeseen(f"says what it {'draws' if marker.several else 'attacks'} only when it runs")
    request = request_of(mark, item, state.settings, state.library(item.path.parent))
    source = _source(item, request, state)
    if source not in estimator.models:
        estimator.models[source] = _memory(source, state)
    if isinstance(request, QualityRequest):
        for model, campaign in quality_campaigns(request, source, state).named:
            yield PlannedRun.of(item.nodeid, campaign, estimator(campaign, source), model)
        return
    if request.kept:
        for model, side in zip(("victim", "base"), campaigns_of_sides(request, source, state), strict=True):
            if side is not None:
                yield PlannedRun.of(item.nodeid, side, estimator(side, source), model)
        return
    campaign, stop = campaign_of(request, source, state), stop_of(request, state)
    store, run = state.store, estimator(campaign, source, stop)
    yield PlannedRun.of(item.nodeid, campaign, run)
    outcomes = campaign.stored(store)[0]
    undrawn = campaign.undrawn(outcomes, campaign.stored_unattacked(store, outcomes), stop)
    if undrawn is not None:
        yield PlannedRun.of(item.nodeid, undrawn, estimator(undrawn, source), "un-attacked")
    required = control_required(run.counts, may_pass=request.gate.may_pass(run.counts))
    drawn_anyway = campaign.concept.images or (campaign.attack.draws_targets and run.left)
    if source.base is not None and required and not drawn_anyway:
        control = first_control_prompts(campaign)
        if control_of(campaign, store, required=True).insufficient:
            yield PlannedRun.of(item.nodeid, control, estimator(control, source), "base")


def _memory(source: ModelSpec, state: SessionState) -> str:
    """Say what a victim's and its base's weights take; empty where their headers do not tell."""
    memory = weights_memory(source, state.store.fingerprints)
    return f"{sanitize(source.label, 500)}: {memory}" if memory is not None else ""


_UNSURE = (
    "; where hooks or other code act on it as it draws, its outcomes are kept only with --unlearndiff-model-version or "
    "a VersionedPipeline"
)


def _source(item: pytest.Item, request: Request, state: SessionState) -> ModelSpec:
    """Return the victim of a gate, where it is known before it is loaded.

    Raises:
        NotForeseen: it is not, or there is none.
    """
    source = gate_source(request, state.settings)
    unsure = "" if source.version else _UNSURE
    if not request.model and is_overridden(item.session, item):
        raise NotForeseen(f"its model is made by an unlearned_pipe fixture{unsure}")
    if is_import_string(source.model):
        raise NotForeseen(f"its model is made by {source.model}{unsure}")
    if source.model is None:
        raise NotForeseen("would be skipped: no model under test")
    return source
