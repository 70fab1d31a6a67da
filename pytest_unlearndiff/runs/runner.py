"""The runner: outcomes of a campaign from the store and, for the missing ones, from a backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.concept import Prompt
from ..core.device import foreseen_kind
from ..core.errors import AttackUnavailable, StoreError, describe_error
from ..core.outcome import Counts, Outcome, computed_forwards
from ..core.result import AttackResult, Control
from ..store.store import Mode, Store
from .campaign import RUN_ALL, Campaign, StopCondition, estimate
from .checkpoints import CheckpointFolder
from .forecast import TimeForecast
from .local_backend import Backend, EngineRequest, PromptEngine
from .model_cache import ModelCache, import_libraries
from .model_spec import ModelSpec
from .positive_control import PositiveControl, control_campaign, control_of
from .progress import Progress, Snapshot
from .provenance import Provenance

ResolveModel = Callable[[], ModelSpec]

_UNDRAWN_STOPPED = "the un-attacked images of the prompts that an early verdict leaves alone could not be drawn"


def ignore_outcome(outcome: Outcome) -> None:
    """Do nothing."""


def _agree() -> None:
    """Do nothing."""


class Runner:
    """Runs campaigns.

    Args:
        store: finished outcomes; each new one is kept before the next is computed.
        models: loaded models, which campaigns share.
        backend: attacks campaigns.
        batch_size: prompts attacked together; None for as many as a GPU's memory has room for.
        progress: is told after every round.
    """

    def __init__(
        self,
        store: Store,
        models: ModelCache,
        backend: Backend,
        *,
        batch_size: int | None,
        progress: Progress | None = None,
    ) -> None:
        self.store = store
        self.models = models
        self.backend = backend
        self.batch_size = batch_size
        self.progress = progress

    def run(
        self,
        campaign: Campaign,
        resolve_model: ResolveModel,
        *,
        stop: StopCondition = RUN_ALL,
        on_outcome: Callable[[Outcome], None] = ignore_outcome,
        confirm: Callable[[], None] = _agree,
        may_pass: Callable[[Counts], bool] | None = None,
    ) -> AttackResult:
        """Find every outcome of a campaign, attacking only prompts that the store lacks.

        Args:
            campaign: the campaign.
            resolve_model: returns the victim's specification; called only if something has to be attacked. It may
                wait for a GPU.
            stop: when the rest of the prompts is left alone.
            on_outcome: is told every new outcome, once it is kept.
            confirm: called once everything is loaded; raises if that differs from the key.
            may_pass: tells if the gate may pass with these counts, and so needs a positive control; None without
                images that show the concept or a base to draw them.

        Returns:
            The result; incomplete if ``stop`` ended it or, with the obstacle, if nothing may or can be attacked.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be loaded, or the store cannot be read or written.
        """
        run = _Run(self, campaign, resolve_model, stop, on_outcome, confirm)
        run.attack()
        run.draw_unattacked()
        run.complete_control(may_pass)
        return run.result()


class _Run:
    """One run of a campaign: its arguments, and what has become of it so far."""

    def __init__(
        self,
        runner: Runner,
        campaign: Campaign,
        resolve_model: ResolveModel,
        stop: StopCondition,
        on_outcome: Callable[[Outcome], None],
        confirm: Callable[[], None],
    ) -> None:
        self._runner, self._campaign, self._resolve_model = runner, campaign, resolve_model
        self._stop, self._on_outcome, self._confirm = stop, on_outcome, confirm
        self._started, self._computed_before = time.monotonic(), computed_forwards()
        self._own = campaign.store_of(runner.store)  # of the base's images, the runner's store keeps the outcomes
        self._folder = campaign.folder(self._own)
        self._control = PositiveControl(campaign, runner.store)
        self._victim, self._fresh = "", 0
        self._obstacle = ""
        self._unattacked: Mapping[str, Outcome] = {}
        stored, rejected = campaign.stored(runner.store)
        self._outcomes = dict(stored)
        self._provenance = Provenance(campaign, self._own, self._outcomes, rejected)

    @property
    def _counts(self) -> Counts:
        return self._campaign.counts(self._outcomes)

    @property
    def _reached(self) -> int:
        """Number of prompts of the set with an outcome; one that stands twice counts twice."""
        return sum(prompt.digest in self._outcomes for prompt in self._campaign.concept.prompts)

    def attack(self) -> None:
        """Attack the prompts that the store lacks, and note obstacles."""
        campaign, runner = self._campaign, self._runner
        if campaign.is_open(self._outcomes, self._stop):
            try:
                unkept = campaign.fingerprint.unkept
                _check_attackable(runner.store.mode, self._stop, torch=runner.backend.needs_torch, unkept=unkept)
                spec = self._resolve_model()
                self._outcomes = dict(campaign.stored(runner.store)[0])  # others may have attacked meanwhile
                is_open = campaign.is_open(self._outcomes, self._stop)
                engine, description = runner.backend.build(self._request(spec)) if is_open else (None, {})
            except AttackUnavailable as obstacle:
                self._obstacle = "; ".join([str(obstacle), *self._provenance.notes])
            else:
                if engine is None:
                    self._provenance.forget_absence()
                else:
                    self._confirm()
                    self._run_engine(engine, spec)
                    self._provenance.add_model(spec, description)
        if campaign.left_alone and not campaign.is_decided(self._counts, self._stop):
            self._obstacle = self._obstacle or _left_alone_message(campaign)

    def _request(self, spec: ModelSpec) -> EngineRequest:
        thumbnails = self._own.writable_thumbnails(self._folder)
        models, batch_size = self._runner.models, self._runner.batch_size
        return EngineRequest(self._campaign, spec, models, batch_size, self._control.recorder, thumbnails)

    def _run_engine(self, engine: PromptEngine, spec: ModelSpec) -> None:
        """Attack the missing prompts, one process at a time."""
        campaign, own, folder = self._campaign, self._own, self._folder
        self._victim = spec.label
        own.create(folder, campaign.key)
        if not folder.metadata:  # the rest is written at the end, which may not come
            own.write_metadata(folder, {"victim": spec.label})
        checkpoints = CheckpointFolder.of(campaign, own)
        store = self._runner.store
        with own.lock(folder), own.sharing(folder), store.sharing(control_campaign(campaign).folder(store)):
            self._outcomes = dict(campaign.stored(store)[0])
            if prompts := campaign.missing(self._outcomes):
                before, device = self._reached, foreseen_kind(spec.device)
                expected = estimate(campaign, store, self._stop, device=device).seconds
                forecast = TimeForecast(campaign, self._stop, device=device or "", expected=expected)
                saved, notes = checkpoints.read(prompts)
                self._provenance.notes += notes
                with closing(_begin(engine, prompts, saved)) as outcomes:
                    for outcome in outcomes:
                        self._take_in(outcome, engine, checkpoints)
                        if outcome is not None:
                            forecast.add(outcome)
                        self._report_progress(engine, before, forecast)
                        if campaign.is_decided(self._counts, self._stop):
                            break
                        if self._stop.is_overdue and self._counts.missing:
                            progressed = self._reached > before or checkpoints.written
                            self._obstacle = self._stop.message if progressed else self._stop.message_nothing_done
                            break
                self._fresh = self._reached - before
                checkpoints.close()

    def _take_in(self, outcome: Outcome | None, engine: PromptEngine, checkpoints: CheckpointFolder) -> None:
        """Keep an outcome or, after a round, checkpoints."""
        if outcome is None:
            checkpoints.write(engine.take_checkpoints())
            return
        self._outcomes[outcome.prompt] = outcome
        self._own.append(self._folder, outcome)
        checkpoints.remove(outcome.prompt)
        self._on_outcome(outcome)

    def _report_progress(self, engine: PromptEngine, known: int, forecast: TimeForecast) -> None:
        if self._runner.progress is not None:
            left = forecast.seconds_left(engine, self._outcomes)
            snapshot = Snapshot.of(
                self._campaign, self._counts, engine, known=known, seconds=forecast.seconds, seconds_left=left
            )
            self._runner.progress(snapshot)

    def draw_unattacked(self) -> None:
        """Draw the un-attacked images of prompts that an early verdict leaves alone: a PASS rests on them too."""
        campaign, store = self._campaign, self._runner.store
        self._unattacked = campaign.stored_unattacked(store, self._outcomes)
        undrawn = campaign.undrawn(self._outcomes, self._unattacked, self._stop)
        if undrawn is None:
            return
        try:
            result = self._runner.run(undrawn, self._resolve_model, stop=self._stop.at_deadline)
        except Exception as error:
            self._unattacked, self._obstacle = {}, f"{_UNDRAWN_STOPPED}: {describe_error(error)}"
            return
        self._unattacked = {outcome.prompt: outcome for outcome in result.outcomes if outcome is not None}
        if result.obstacle:
            self._obstacle = f"{_UNDRAWN_STOPPED}: {result.obstacle}"

    def complete_control(self, may_pass: Callable[[Counts], bool] | None) -> None:
        """Read the positive control and, if the gate needs more images, have them drawn or judged."""
        make = self._judge_supplied_images if self._campaign.concept.images else self._draw_control
        self._control.complete(self._counts, may_pass, make)
        self._obstacle = self._obstacle or self._control.obstacle

    def _draw_control(self, control: Campaign) -> str:
        """Have the base draw the control's missing images; returns the obstacle, if any."""
        runner, progress = self._runner, self._runner.progress and _labelled(self._runner.progress, "none, on its base")
        base_runner = Runner(
            runner.store, runner.models, runner.backend, batch_size=runner.batch_size, progress=progress
        )
        result = base_runner.run(
            control, lambda: self._resolve_model().base_only, stop=self._stop.at_deadline, confirm=self._confirm
        )
        outcomes = [outcome for outcome in result.outcomes if outcome is not None]
        self._control.recorder.outcomes.update({outcome.prompt: outcome for outcome in outcomes})
        return result.obstacle or next((outcome.error for outcome in outcomes if outcome.error), "")

    def _judge_supplied_images(self, control: Campaign) -> str:
        """Judge a concept's own images, in this process, since nothing has to be drawn; there is no obstacle."""
        store = self._runner.store
        with store.sharing(control.folder(store)):
            _check_attackable(store.mode, self._stop, torch=True)
            spec = self._resolve_model()
            if not self._runner.backend.needs_torch:  # workers have the GPUs, and this machine may have none
                spec = spec.on("cpu")
            judge = self._runner.models.judge(control.concept.judge, spec)
            self._confirm()
            self._control.recorder.judge_supplied_images(control, judge, spec)
        return ""

    def result(self) -> AttackResult:
        """Sum the run up."""
        if not_sent := self._runner.store.push_pending():
            self._provenance.notes.append(not_sent)
        return _result(
            self._campaign,
            self._outcomes,
            seconds=time.monotonic() - self._started,
            victim=self._victim,
            fresh=self._fresh,
            provenance=self._provenance.facts,
            obstacle=self._obstacle,
            cause=self._control.cause,
            control=self._control.seen,
            computed=computed_forwards() - self._computed_before,
            unattacked=self._unattacked,
        )


def _begin(
    engine: PromptEngine, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]
) -> Generator[Outcome | None]:
    """Yield once before the first round, so that nothing is begun where the time is used up by then."""
    yield None
    yield from engine.run(prompts, checkpoints)


def result_from_store(campaign: Campaign, store: Store, obstacle: str) -> AttackResult:
    """Gather stored outcomes without attacking anything, because of ``obstacle``.

    They are empty if the store cannot be read.
    """
    try:
        outcomes, control = campaign.stored(store)[0], control_of(campaign, store)
    except StoreError:
        outcomes, control = {}, Control()
    unkept = campaign.fingerprint.unkept
    return _result(
        campaign,
        outcomes,
        obstacle=obstacle,
        control=control,
        provenance={"unkept": unkept} if unkept else {},
        unattacked=campaign.stored_unattacked(store, outcomes),
        victim="",
    )


def _result(campaign: Campaign, outcomes: Mapping[str, Outcome], **facts: Any) -> AttackResult:
    return AttackResult.gather(
        campaign.concept,
        outcomes,
        attack=campaign.attack.title,
        key=campaign.key.digest,
        fingerprint=campaign.fingerprint.victim,
        **facts,
    )


def _check_attackable(mode: Mode, stop: StopCondition, *, torch: bool, unkept: str = "") -> None:
    """Check that this session may attack and, where it does so itself, has what attacks need.

    Raises:
        AttackUnavailable: names the reason and the remedy.
    """
    if mode is Mode.REQUIRE:
        if unkept:
            raise AttackUnavailable(f"--unlearndiff-cache=require answers from the store alone, and {unkept}")
        raise AttackUnavailable(
            "--unlearndiff-cache=require forbids drawing anything new: run once without it to fill in what is missing"
        )
    if stop.is_overdue:
        raise AttackUnavailable(stop.message)
    if not torch:
        return
    try:
        import_libraries()
    except ModuleNotFoundError as error:
        raise AttackUnavailable(
            f'{error.name} is not installed, and without it nothing is drawn: pip install "pytest-unlearndiff[torch]"'
        ) from None


def _left_alone_message(campaign: Campaign) -> str:
    """Describe why prompts have no outcome although nothing went wrong."""
    total = len(campaign.concept.prompts)
    return (
        f"{Path(campaign.attack.known.source).name} has adversarial prompts of {total - campaign.left_alone} of the "
        f"{total} prompts, and the others were not attacked: find some for them too, or gate only those it has with "
        "prompts='known'"
    )


def _labelled(progress: Progress, attack: str) -> Progress:
    return lambda snapshot: progress(replace(snapshot, attack=attack))
