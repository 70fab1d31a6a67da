"""--unlearndiff-plan: every gate, what the store knows of it and what is left, without loading a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from ..core.attack_config import is_unattacked
from ..core.errors import UnlearnDiffError
from ..reports.text import format_duration, sanitize, table
from ..runs.campaign import Campaign, RunEstimate, estimate
from ..runs.model_memory import weights_memory
from ..runs.model_spec import ModelSpec
from ..runs.positive_control import control_of, control_required, first_control_prompts
from ..sources.resolve import is_import_string
from .gate_run import campaign_of, campaigns_of_sides, stop_of
from .markers import MARKERS, GateRequest, Marker, request_of
from .model_under_test import gate_source, is_overridden
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
        self._lines = plan(session, state_of(session.config))
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


def plan(session: pytest.Session, state: SessionState) -> list[str]:
    """Return lines that say what this session would attack and draw, and the memory that its models will take."""
    runs: list[PlannedRun] = []
    unknown: list[tuple[str, str]] = []
    models: dict[ModelSpec, str] = {}
    for item in session.items:
        for marker in MARKERS.values():
            if marker.fixture in getattr(item, "fixturenames", ()):
                marks: list[pytest.Mark | None] = [*reversed([*item.iter_markers(marker.name)])]
                for mark in (marks if marker.kept else marks[-1:]) or [None]:
                    try:
                        runs += _runs_of(item, marker, mark, state, models)
                    except (NotForeseen, UnlearnDiffError) as reason:
                        unknown.append((item.nodeid, str(reason)))
    return [*plan_lines(runs, unknown), *dict.fromkeys(filter(None, models.values()))]


def _runs_of(
    item: pytest.Item, marker: Marker, mark: pytest.Mark | None, state: SessionState, models: dict[ModelSpec, str]
) -> Iterator[PlannedRun]:
    """Yield the campaigns of a gate, and note what its models take.

    Raises:
        NotForeseen: they are not known.
    """
    if mark is None:
        raise NotForeseen(f"says what it {'draws' if marker.kept else 'attacks'} only when it runs")
    request = request_of(mark, item, state.settings, state.library(item.path.parent))
    source = _source(item, request, state)
    if source not in models:
        models[source] = _memory(source, state)
    if request.kept:
        for model, side in zip(("victim", "base"), campaigns_of_sides(request, source, state), strict=True):
            if side is not None:
                yield PlannedRun.of(item.nodeid, side, estimate(side, state.store), model)
        return
    campaign, stop = campaign_of(request, source, state), stop_of(request, state)
    store, run = state.store, estimate(campaign, state.store, stop)
    yield PlannedRun.of(item.nodeid, campaign, run)
    outcomes = campaign.stored(store)[0]
    undrawn = campaign.undrawn(outcomes, campaign.stored_unattacked(store, outcomes), stop)
    if undrawn is not None:
        yield PlannedRun.of(item.nodeid, undrawn, estimate(undrawn, store), "un-attacked")
    required = control_required(run.counts, may_pass=request.gate.may_pass(run.counts))
    drawn_anyway = campaign.concept.images or (campaign.attack.draws_targets and run.left)
    if source.base is not None and required and not drawn_anyway:
        control = first_control_prompts(campaign)
        if control_of(campaign, store, required=True).insufficient:
            yield PlannedRun.of(item.nodeid, control, estimate(control, store), "base")


def _memory(source: ModelSpec, state: SessionState) -> str:
    """Say what a victim's and its base's weights take; empty where their headers do not tell."""
    memory = weights_memory(source, state.store.fingerprints)
    return f"{sanitize(source.label, 500)}: {memory}" if memory is not None else ""


_UNSURE = (
    "; where hooks or other code act on it as it draws, its outcomes are kept only with --unlearndiff-model-version or "
    "a VersionedPipeline"
)


def _source(item: pytest.Item, request: GateRequest, state: SessionState) -> ModelSpec:
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
