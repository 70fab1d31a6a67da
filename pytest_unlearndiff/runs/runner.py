"""The runner: outcomes of a campaign from the store and, for the missing ones, from a backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.concept import Prompt
from ..core.device import AUTO, environment_info
from ..core.errors import AttackUnavailable, StoreError, UnlearnDiffError
from ..core.outcome import Counts, Outcome, computed_forwards
from ..core.result import STORE_NOTES, AttackResult, Control
from ..store.journal import RejectedLines
from ..store.store import Mode, Store
from .campaign import RUN_ALL, Campaign, StopCondition, store_notes
from .checkpoints import CheckpointFolder, CheckpointId
from .local_backend import Backend, PromptEngine
from .model_cache import ModelCache, import_libraries
from .model_spec import ModelSpec
from .positive_control import ControlRecorder, control_campaign, control_of, control_required, first_control_prompts
from .progress import Progress, Snapshot

ResolveModel = Callable[[], ModelSpec]

NOT_STORED = "not_in_the_store"
_OF_SESSION = {"campaign", "distrusted_lines", "known_prompts", NOT_STORED, STORE_NOTES}
"""Facts that every session states anew; those stored beside the journal are ignored."""

_CONTROL_STOPPED = "the positive control could not be drawn and judged"
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
    """One run of a campaign.

    Attributes:
        control: judgements on the base's images in this session.
    """

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
        self.control = ControlRecorder(control_campaign(campaign), runner.store)
        self._seen = Control()
        self._victim, self._fresh = "", 0
        self._obstacle, self._cause = "", None  # type: tuple[str, BaseException | None]
        self._unattacked: Mapping[str, Outcome] = {}
        stored, rejected = campaign.stored(runner.store)
        self._outcomes = dict(stored)
        self._notes = store_notes(campaign, self._own, self._outcomes, rejected)
        self._provenance = self._stored_provenance(rejected)

    @property
    def _counts(self) -> Counts:
        return self._campaign.counts(self._outcomes)

    def attack(self) -> None:
        """Attack the prompts that the store lacks, and note obstacles."""
        campaign, runner = self._campaign, self._runner
        if campaign.is_open(self._outcomes, self._stop):
            try:
                unkept = campaign.fingerprint.unkept
                check_attackable(runner.store.mode, self._stop, torch=runner.backend.needs_torch, unkept=unkept)
                spec = self._resolve_model()
                self._outcomes = dict(campaign.stored(runner.store)[0])  # others may have attacked meanwhile
                if campaign.is_open(self._outcomes, self._stop):
                    engine, description = runner.backend.build(
                        campaign,
                        spec,
                        runner.models,
                        runner.batch_size,
                        self.control,
                        self._own.writable_thumbnails(self._folder),
                    )
                    self._confirm()
                else:
                    engine = None
            except AttackUnavailable as obstacle:
                self._obstacle = "; ".join([str(obstacle), *self._notes])
            else:
                if engine is None:
                    self._forget_absence()
                else:
                    self._run_engine(engine, spec.label)
                    description |= self._model_provenance(spec)
                    self._provenance |= description
                    self._own.write_metadata(self._folder, description)
        if campaign.left_alone and not campaign.is_decided(self._counts, self._stop):
            self._obstacle = self._obstacle or _left_alone_message(campaign)

    def _run_engine(self, engine: PromptEngine, victim: str) -> None:
        """Attack the missing prompts, one process at a time."""
        campaign, own, folder = self._campaign, self._own, self._folder
        self._victim = victim
        own.create(folder, campaign.key)
        if not folder.metadata:  # the rest is written at the end, which may not come
            own.write_metadata(folder, {"victim": victim})
        checkpoints = CheckpointFolder(
            folder.folder / "in-progress", CheckpointId.of(campaign), reads=own.mode.reads, writes=own.mode.writes
        )
        store = self._runner.store
        with own.lock(folder), own.sharing(folder), store.sharing(control_campaign(campaign).folder(store)):
            self._outcomes = dict(campaign.stored(store)[0])
            if prompts := campaign.missing(self._outcomes):
                before, started = self._reached, time.monotonic()
                saved, notes = checkpoints.read(prompts)
                if notes:
                    self._provenance[STORE_NOTES] = [*self._notes, *notes]
                with closing(_begin(engine, prompts, saved)) as outcomes:
                    for outcome in outcomes:
                        self._take_in(outcome, engine, checkpoints)
                        self._report_progress(engine, before, started)
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

    @property
    def _reached(self) -> int:
        """Number of prompts of the set with an outcome; one that stands twice counts twice."""
        return sum(prompt.digest in self._outcomes for prompt in self._campaign.concept.prompts)

    def _report_progress(self, engine: PromptEngine, from_store: int, started: float) -> None:
        if self._runner.progress is not None:
            self._runner.progress(
                Snapshot(
                    self._campaign.concept.name,
                    self._campaign.attack.title,
                    self._counts,
                    engine.active,
                    from_store,
                    time.monotonic() - started,
                    engine.worker_count,
                    left_alone=self._campaign.left_alone,
                    rounds=engine.rounds,
                    last_round=self._campaign.attack.last_round,
                )
            )

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
            self._unattacked, self._obstacle = {}, f"{_UNDRAWN_STOPPED}: {_describe(error)}"
            return
        self._unattacked = {outcome.prompt: outcome for outcome in result.outcomes if outcome is not None}
        if result.obstacle:
            self._obstacle = f"{_UNDRAWN_STOPPED}: {result.obstacle}"

    def complete_control(self, may_pass: Callable[[Counts], bool] | None) -> None:
        """Read the positive control and, if the gate needs more images, have them drawn."""
        passes = may_pass is not None and may_pass(self._counts)
        required = may_pass is not None and control_required(self._counts, may_pass=passes)
        self._seen = self._read_control(required=required)
        if not self._seen.insufficient:
            return
        try:
            obstacle, cause = self._draw_control(), None  # type: tuple[str, BaseException | None]
        except Exception as error:
            obstacle, cause = _describe(error), error
        self._seen = self._read_control(required=required)
        if self._seen.insufficient and passes and obstacle:
            self._obstacle = self._obstacle or f"{_CONTROL_STOPPED}: {obstacle}"
            self._cause = self._cause or cause

    def _read_control(self, *, required: bool) -> Control:
        return control_of(self._campaign, self._runner.store, self.control.outcomes, required=required)

    def _draw_control(self) -> str:
        """Have the base draw the control's missing images, or judge the concept's own; returns the obstacle, if any."""
        control, runner = first_control_prompts(self._campaign), self._runner
        if self._campaign.concept.images:
            with runner.store.sharing(control.folder(runner.store)):
                self._judge_supplied_images(control)
            return ""
        progress = runner.progress and _labelled(runner.progress, "none, on its base")
        base_runner = Runner(
            runner.store, runner.models, runner.backend, batch_size=runner.batch_size, progress=progress
        )
        result = base_runner.run(
            control, lambda: self._resolve_model().base_only, stop=self._stop.at_deadline, confirm=self._confirm
        )
        outcomes = [outcome for outcome in result.outcomes if outcome is not None]
        self.control.outcomes.update({outcome.prompt: outcome for outcome in outcomes})
        return result.obstacle or next((outcome.error for outcome in outcomes if outcome.error), "")

    def _judge_supplied_images(self, control: Campaign) -> None:
        """Judge a concept's own images, in this process, since nothing has to be drawn."""
        check_attackable(self._runner.store.mode, self._stop, torch=True)
        from ..models.generated_images import GeneratedImage
        from ..models.target_images import supplied_image

        spec = self._resolve_model()
        if not self._runner.backend.needs_torch:  # workers have the GPUs, and this machine may have none
            spec = spec.on("cpu")
        judge = self._runner.models.judge(control.concept.judge, spec)
        self._confirm()
        prompts = control.concept.prompts
        images = [GeneratedImage(supplied_image(Path(control.concept.images[p.digest]))) for p in prompts]
        self.control.judge(prompts, images, judge, 0)

    def result(self) -> AttackResult:
        """Sum the run up."""
        if not_sent := self._runner.store.push_pending():
            self._provenance[STORE_NOTES] = [*self._notes, not_sent]
        return _result(
            self._campaign,
            self._outcomes,
            seconds=time.monotonic() - self._started,
            victim=self._victim,
            fresh=self._fresh,
            provenance=self._provenance,
            obstacle=self._obstacle,
            cause=self._cause,
            control=self._seen,
            computed=computed_forwards() - self._computed_before,
            unattacked=self._unattacked,
        )

    def _stored_provenance(self, rejected: RejectedLines) -> dict[str, Any]:
        """Collect the provenance before anything is attacked."""
        campaign, fingerprint = self._campaign, self._campaign.fingerprint
        provenance = self._metadata()
        provenance["campaign"] = campaign.key.to_dict()
        if fingerprint.unkept:
            provenance["unkept"] = fingerprint.unkept
        if fingerprint.version:
            provenance["model_version"] = fingerprint.version
        if fingerprint.unhashed:
            provenance["acts_at_inference"] = list(fingerprint.unhashed)
        if rejected.lines:
            provenance["distrusted_lines"] = f"{rejected.lines} ({rejected.reasons})"
        if self._notes:
            provenance[STORE_NOTES] = list(self._notes)
        if campaign.attack.known.rows:
            provenance["known_prompts"] = campaign.attack.known.source
        if not self._outcomes and (closest := self._own.closest_campaign(campaign.concept.name, campaign.key)):
            provenance[NOT_STORED] = f"the nearest campaign there differs in {', '.join(closest[1])}"
        return provenance

    def _metadata(self) -> dict[str, Any]:
        """Read stored facts of the loaded model and of assumptions."""
        return {name: value for name, value in self._own.metadata(self._folder).items() if name not in _OF_SESSION}

    def _forget_absence(self) -> None:
        """Correct the provenance after another process attacked everything meanwhile."""
        for name in (NOT_STORED, STORE_NOTES):
            self._provenance.pop(name, None)
        self._provenance |= self._metadata()

    def _model_provenance(self, spec: ModelSpec) -> dict[str, Any]:
        """Collect the provenance of the victim, device and packages."""
        own_images = self._campaign.attack.needs_target and bool(self._campaign.concept.images)
        return {
            **({"target images": "those that the concept names"} if own_images else {}),
            "victim": spec.label,
            # Of workers, each says where it is.
            **({"device": spec.device, "dtype": spec.dtype} if spec.device != AUTO else {}),
            **environment_info("pytest-unlearndiff", "torch", "diffusers", "transformers"),
        }


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


def check_attackable(mode: Mode, stop: StopCondition, *, torch: bool, unkept: str = "") -> None:
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


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, UnlearnDiffError) else f"{type(error).__name__}: {error}"
