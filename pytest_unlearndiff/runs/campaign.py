"""One attack on one victim over one concept's prompts: from the store where it knows, attacked where it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.attack_config import ALGORITHM, AttackConfig
from ..core.concept import Concept, Prompt
from ..core.errors import AttackUnavailable, StoreError
from ..core.forward_passes import computed_forwards
from ..core.judge_options import key_kind, key_options
from ..core.outcome import Counts, Outcome
from ..core.positive_control import Control
from ..core.result import STORE_NOTES, AttackResult
from ..store.campaign_dir import CampaignDir
from ..store.journal import RejectedLines, StoredOutcomes
from ..store.key import AttackKey
from ..store.store import Mode, Store
from .model_cache import Fingerprint, ModelCache, ModelSpec, import_libraries
from .progress import Progress, Snapshot
from .stop import RUN_ALL, StopCondition

if TYPE_CHECKING:
    from ..workers.distributed_engine import DistributedEngine, WorkerPoolConfig
    from .engine import Engine

Provide = Callable[[], ModelSpec]


_OF_SESSION = {"campaign", "distrusted_lines", "known_prompts", "not_in_the_store", STORE_NOTES}
"""What a session says of a campaign itself, whatever was written down beside the journal."""


def _ignore(outcome: Outcome) -> None:
    """Nobody wants to know."""


def _agree() -> None:
    """Nobody has anything against it."""


@dataclass(frozen=True)
class RunEstimate:
    """What a campaign would do.

    Attributes:
        tally: what the store knows.
        lacking: digests of the prompts that would be attacked, if none before them makes the verdict certain.
        differs: where the store knows nothing, in what the key of the nearest campaign differs.
        notes: what is wrong with the store.
        seconds: what they will take, if prompts go as those did that the store knows, of this campaign or the nearest.
        most: what they will take, if each of them resists to the end.
    """

    tally: Counts
    lacking: frozenset[str]
    differs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float | None = None
    most: float | None = None

    @property
    def left(self) -> int:
        """How many prompts would be attacked."""
        return len(self.lacking)


@dataclass(frozen=True)
class Campaign:
    """A campaign that may or may not have been run before.

    Attributes:
        concept: what should be gone, with the prompts to attack.
        attack: how adversarial tokens are searched.
        fingerprint: of victim and base.
        judge: content hash of the judge's weights.
        seed: run seed; each prompt's own generators follow from it.
    """

    concept: Concept
    attack: AttackConfig
    fingerprint: Fingerprint
    judge: str
    seed: int = 0

    @property
    def key(self) -> AttackKey:
        """All that can change an outcome of this campaign."""
        return AttackKey(
            algorithm=ALGORITHM,
            attack=self.attack.name,
            params=self.attack.params(),
            victim=self.fingerprint.victim,
            target=self.fingerprint.target if self.attack.needs_target else "",
            judge={
                "kind": key_kind(self.concept.judge),
                "options": key_options(self.concept.judge),
                "weights": self.judge,
            },
            sampling=asdict(self.concept.sampling),
            seed=self.seed,
        )

    def run(
        self,
        store: Store,
        provide: Provide,
        parts: ModelCache,
        *,
        batch_size: int,
        progress: Progress | None = None,
        ending: StopCondition = RUN_ALL,
        observe: Callable[[Outcome], None] = _ignore,
        crew: WorkerPoolConfig | None = None,
        control: Callable[[Counts], bool] | None = None,
        confirm: Callable[[], None] = _agree,
    ) -> AttackResult:
        """Every outcome of the prompt set, attacking only what the store lacks.

        Args:
            store: finished outcomes; each new one is kept before the next is computed.
            provide: gives the victim; called only where something has to be attacked. It may wait for a GPU.
            parts: what campaigns of this process share.
            batch_size: prompts attacked together.
            progress: told after every finished prompt.
            ending: when the rest of the prompts is left alone.
            observe: told every new outcome, once it is kept.
            crew: processes that attack instead of this one, which then needs no torch.
            control: where there are images that show the concept, or a base to draw them: whether, with this tally,
                the judge has to be seen to see it there; asked once the attack is over.
            confirm: called once everything is loaded; raises where that is not what the key says.

        Returns:
            The result; incomplete where ``ending`` says so or, with the obstacle, where nothing may or can be attacked.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be loaded, or the store cannot be read or written.
        """
        started, before = time.monotonic(), computed_forwards()
        own = self.store_of(store)  # the base's images are the whole store's affair in any case
        entry = own.campaign(self.concept.name, self.key)
        found, distrusted = self._known(own, entry)
        notes = self._notes(own, entry, found, distrusted)
        provenance = self._provenance(own, entry, found, distrusted, notes)
        facts: dict[str, Any] = {}
        watched: dict[str, Outcome] = {}
        if self._open(found, ending):
            made = None
            try:
                check_attackable(store.mode, ending, torch=crew is None, unkept=self.fingerprint.unkept)
                source = provide()
                found = self._known(own, entry)[0]  # where that waited, others may have attacked meanwhile
                made = (
                    self._made(source, parts, batch_size, store, watched, crew) if self._open(found, ending) else None
                )
                if made is not None:
                    confirm()
            except AttackUnavailable as obstacle:
                facts = {"obstacle": "; ".join([str(obstacle), *notes])}
            else:
                if made is None:  # others attacked it all meanwhile
                    for name in ("not_in_the_store", STORE_NOTES):
                        provenance.pop(name, None)
                    provenance |= self._noted(own, entry)
            if made is not None:
                from .local_engine import facts_of

                engine, described = made
                found, facts = self._attack(engine, store, entry, source.title, progress, ending, observe)
                described |= facts_of(self, source)
                provenance |= described
                if own.mode.writes:
                    own.write_metadata(entry, described)
                facts["victim"] = source.title
        if (unreached := self._unreached()) and not self._settled(self._tally(found), ending):
            facts.setdefault("obstacle", unreached)
        from .positive_control import control_required, draw_control
        from .unattacked_images import draw_unattacked, known_unattacked

        facts["unattacked"] = known_unattacked(self, store, found)
        if (undrawn := self._undrawn(found, facts["unattacked"], ending)) is not None:
            facts["unattacked"], prevented = draw_unattacked(
                undrawn, store, provide, parts, batch_size=batch_size, ending=ending, progress=progress, crew=crew
            )
            facts |= {"obstacle": prevented} if prevented else {}
        may_pass = control is not None and control(self._tally(found))
        asked = control is not None and control_required(self._tally(found), may_pass=may_pass)
        seen = self._control(store, watched, asked=asked)
        if seen.insufficient:
            rest = replace(ending, settled=RUN_ALL.settled)
            options = {"parts": parts, "batch_size": batch_size, "ending": rest, "crew": crew, "confirm": confirm}
            stopped = draw_control(self, provide, store, watched, progress=progress, **options)
            seen = self._control(store, watched, asked=asked)
            facts = {**stopped, **facts} if seen.insufficient and may_pass else facts
        if behind := store.push_pending():
            provenance[STORE_NOTES] = [*notes, behind]
        computed = computed_forwards() - before
        return self._result(found, started, provenance=provenance, control=seen, computed=computed, **facts)

    def store_of(self, store: Store) -> Store:
        """The store for this campaign's outcomes: none, where its key does not tell its victim from others."""
        return store if self.fingerprint.complete else store.disabled

    def _noted(self, store: Store, entry: CampaignDir) -> dict[str, Any]:
        """What was loaded and assumed when the campaign was attacked, as far as that is known."""
        return {name: value for name, value in store.metadata(entry).items() if name not in _OF_SESSION}

    def _notes(
        self, store: Store, entry: CampaignDir, found: Mapping[str, Outcome], distrusted: RejectedLines
    ) -> list[str]:
        """What is wrong with a store that knows nothing of a campaign, or with a folder in it, for people."""
        absent = store.explain_missing(entry, self.key) if store.mode.reads and not found else ""
        return [*distrusted.notes, *([absent] if absent else [])]

    def _provenance(
        self,
        store: Store,
        entry: CampaignDir,
        found: Mapping[str, Outcome],
        distrusted: RejectedLines,
        notes: Sequence[str],
    ) -> dict[str, Any]:
        """What there is to say of a campaign before anything is attacked."""
        provenance = self._noted(store, entry) if store.mode.reads else {}
        provenance["campaign"] = self.key.to_dict()
        if self.fingerprint.unkept:
            provenance["unkept"] = self.fingerprint.unkept
        if self.fingerprint.version:
            provenance["model_version"] = self.fingerprint.version
        if self.fingerprint.unhashed:
            provenance["acts_at_inference"] = list(self.fingerprint.unhashed)
        if distrusted.lines:
            provenance["distrusted_lines"] = f"{distrusted.lines} ({distrusted.reasons})"
        if notes:
            provenance[STORE_NOTES] = list(notes)
        if self.attack.known.rows:
            provenance["known_prompts"] = self.attack.known.source
        if not found and store.mode.reads and (nearest := store.closest_campaign(self.concept.name, self.key)):
            provenance["not_in_the_store"] = f"the nearest campaign there differs in {', '.join(nearest[1])}"
        return provenance

    def prospect(self, store: Store, ending: StopCondition = RUN_ALL) -> RunEstimate:
        """What a run would find in the store and what it would have to attack; nothing is loaded."""
        store = self.store_of(store)
        entry = store.campaign(self.concept.name, self.key)
        found, distrusted = self._known(store, entry)
        tally = self._tally(found)
        lacking = () if self._settled(tally, ending) else self._lacking(found)
        nearest = store.closest_campaign(self.concept.name, self.key) if store.mode.reads else None
        alike = nearest is not None and self._attacks_as(nearest[0].key or {})
        measured = list(found.values()) or (list(nearest[0].outcomes()[0].values()) if nearest and alike else [])
        spent = sum(outcome.seconds for outcome in measured)
        return RunEstimate(
            tally,
            frozenset(prompt.digest for prompt in lacking),
            differs=tuple(nearest[1]) if nearest and not found else (),
            notes=tuple(self._notes(store, entry, found, distrusted)),
            seconds=spent / len(measured) * len(lacking) if spent and lacking else None,
            most=self._at_most(measured) * len(lacking) if spent and lacking else None,
        )

    def _at_most(self, measured: Sequence[Outcome]) -> float:
        """Seconds of a prompt that resists to the end, if its UNet forward passes take what those measured took."""
        image = 2 * self.concept.sampling.steps
        exhausted = image + self.attack.forward_passes(image)
        spent, forwards = sum(o.seconds for o in measured), sum(o.forwards for o in measured)
        return max(spent / len(measured), exhausted * spent / forwards if forwards else 0.0)

    def _attacks_as(self, key: Mapping[str, Any]) -> bool:
        """Whether a campaign of the store does the same work for a prompt."""
        return (key.get("attack"), key.get("params")) == (self.key.attack, self.key.params)

    def stored(self, store: Store) -> Counts:
        """How the prompts ended that the store's folder holds, whether its mode lets them count or not."""
        try:
            found, _ = store.campaign(self.concept.name, self.key).outcomes() if self.fingerprint.complete else ({}, 0)
        except StoreError:
            found = {}
        return self._tally(found)

    def kept(self, store: Store, obstacle: str) -> AttackResult:
        """What is known without attacking anything, where ``obstacle`` stood in the way.

        Where that was the store itself, nothing is known.
        """
        started = time.monotonic()
        try:
            found, _ = self._known(self.store_of(store), store.campaign(self.concept.name, self.key))
            control = self._control(store, {})
        except StoreError:
            found, control = {}, Control()
        from .unattacked_images import known_unattacked

        provenance = {"unkept": self.fingerprint.unkept} if self.fingerprint.unkept else {}
        plain = known_unattacked(self, store, found)
        facts: dict[str, Any] = {"obstacle": obstacle, "control": control, "provenance": provenance}
        return self._result(found, started, unattacked=plain, **facts)

    def _result(self, found: Mapping[str, Outcome], started: float, **facts: Any) -> AttackResult:
        return AttackResult.gather(
            self.concept,
            found,
            attack=self.attack.title,
            key=self.key.digest,
            fingerprint=self.fingerprint.victim,
            seconds=time.monotonic() - started,
            **{"victim": "", **facts},
        )

    def _control(self, store: Store, watched: Mapping[str, Outcome], *, asked: bool = False) -> Control:
        """What the judge saw in images that show the concept: kept, or watched in this session."""
        from .positive_control import control_of

        return control_of(self, store, watched, asked=asked)

    def _known(self, store: Store, entry: CampaignDir) -> StoredOutcomes:
        """What the store knows of this prompt set."""
        if not store.mode.reads:
            return StoredOutcomes({})
        found, distrusted = store.outcomes(entry)
        wanted = {prompt.digest for prompt in self.concept.prompts}
        return StoredOutcomes({digest: outcome for digest, outcome in found.items() if digest in wanted}, distrusted)

    def _lacking(self, found: Mapping[str, Outcome]) -> list[Prompt]:
        """Prompts with no outcome yet that the attack has anything for, each text, seed and guidance once.

        By their guidance: only images of one are drawn in one call, and what does not fill a batch is filled up with
        copies. Of upstream's nudity prompts, whose guidance has 12 values, eight at a time in the set's order take 268
        images for 142, and 172 in this one.
        """
        ordered = sorted(self.concept.prompts, key=lambda prompt: prompt.guidance)
        prompts = {prompt.digest: prompt for prompt in ordered if self.attack.can_attack(prompt)}
        return [prompt for digest, prompt in prompts.items() if digest not in found]

    def _unreached(self) -> str:
        """Why prompts are left without an outcome that nothing was in the way of; empty where there are none."""
        if not (left := self._left_alone()):
            return ""
        total = len(self.concept.prompts)
        return (
            f"{Path(self.attack.known.source).name} has adversarial prompts of {total - left} of the {total} prompts, "
            "and the others were not attacked: find some for them too, or gate only those it has with prompts='known'"
        )

    def _left_alone(self) -> int:
        """How many prompts of the set the attack has nothing for."""
        return sum(not self.attack.can_attack(prompt) for prompt in self.concept.prompts)

    def _open(self, found: Mapping[str, Outcome], ending: StopCondition) -> bool:
        """Whether there is anything to attack."""
        return bool(self._lacking(found)) and not self._settled(self._tally(found), ending)

    def _settled(self, tally: Counts, ending: StopCondition) -> bool:
        """Tell whether the rest need not be attacked.

        Their un-attacked images may still have to be drawn, which without attack is all there is to do.
        """
        return ending.settled(tally if self.attack.unattacked else replace(tally, may_repeat=False))

    def _undrawn(
        self, found: Mapping[str, Outcome], unattacked: Mapping[str, Outcome], ending: StopCondition
    ) -> Campaign | None:
        """The prompts that an early verdict leaves alone, without attack; None where it needs nothing of them.

        What fails does so whatever their images are.
        """
        from .unattacked_images import unattacked_campaign

        tally = self._tally(found, unattacked)
        if not self._settled(tally, ending) or ending.settled(tally):
            return None
        rest = tuple(prompt for prompt in self.concept.prompts if prompt.digest not in found)
        return unattacked_campaign(replace(self, concept=replace(self.concept, prompts=rest)))

    def undrawn(self, store: Store, ending: StopCondition) -> Campaign | None:
        """As ``_undrawn``, of what the store knows."""
        from .unattacked_images import known_unattacked

        found, _ = self._known(store, store.campaign(self.concept.name, self.key))
        return self._undrawn(found, known_unattacked(self, store, found), ending)

    def _reached(self, found: Mapping[str, Outcome]) -> int:
        """How many prompts of the set have an outcome; one that stands twice counts twice."""
        return sum(prompt.digest in found for prompt in self.concept.prompts)

    def _tally(self, found: Mapping[str, Outcome], unattacked: Mapping[str, Outcome] | None = None) -> Counts:
        outcomes = (found.get(prompt.digest) for prompt in self.concept.prompts)
        return Counts.of(outcomes, self.concept.prompts, unattacked or {})

    def _attack(
        self,
        engine: Engine | DistributedEngine,
        store: Store,
        entry: CampaignDir,
        victim: str,
        progress: Progress | None,
        ending: StopCondition,
        observe: Callable[[Outcome], None],
    ) -> tuple[dict[str, Outcome], dict[str, Any]]:
        """Attack what is lacking, one process at a time.

        Returns:
            All outcomes, and facts of the result: how many prompts gained theirs, and what stopped the rest.
        """
        from .positive_control import sharing_control

        own = self.store_of(store)
        if own.mode.writes:
            own.create(entry, self.key)
            if not entry.metadata:  # all there is to say is said at the end, which may not come
                entry.write_metadata({"victim": victim})
        alone = own.lock(entry) if own.mode.writes else nullcontext()
        with alone, own.sharing(entry), sharing_control(store, self):
            found, _ = self._known(own, entry)
            known, started = self._reached(found), time.monotonic()
            facts: dict[str, Any] = {}
            with closing(self._outcomes(engine, found)) as outcomes:
                for outcome in outcomes:
                    if outcome is not None:
                        found[outcome.prompt] = outcome
                        if own.mode.writes:
                            own.append(entry, outcome)
                        observe(outcome)
                    tally = self._tally(found)
                    if progress is not None:
                        progress(self._snapshot(engine, tally, known, time.monotonic() - started))
                    if self._settled(tally, ending):
                        break
                    if ending.overdue and tally.missing:
                        facts["obstacle"] = ending.mend if self._reached(found) > known else ending.too_short
                        break
        return found, {**facts, "fresh": self._reached(found) - known}

    def _snapshot(self, engine: Engine | DistributedEngine, tally: Counts, known: int, seconds: float) -> Snapshot:
        return Snapshot(
            self.concept.name,
            self.attack.title,
            tally,
            engine.active,
            known,
            seconds,
            engine.worker_count,
            left_alone=self._left_alone(),
            rounds=engine.rounds,
            last_round=self.attack.last_round,
        )

    def _outcomes(self, engine: Engine | DistributedEngine, found: Mapping[str, Outcome]) -> Generator[Outcome | None]:
        """Outcomes of what is lacking as they come; None for work that has begun or goes on."""
        if lacking := self._lacking(found):
            yield None
            yield from engine.run(lacking)

    def _made(
        self,
        source: ModelSpec,
        parts: ModelCache,
        batch_size: int,
        store: Store,
        watched: dict[str, Outcome],
        crew: WorkerPoolConfig | None,
    ) -> tuple[Engine | DistributedEngine, dict[str, Any]]:
        """What attacks, here or elsewhere."""
        if crew is None:
            return self.engine(source, parts, batch_size, store, watched)
        from .local_engine import workers_elsewhere

        return workers_elsewhere(self, crew, source, batch_size, store, watched)

    def engine(
        self, source: ModelSpec, parts: ModelCache, batch_size: int, store: Store, watched: dict[str, Outcome]
    ) -> tuple[Engine, dict[str, Any]]:
        """Load victim, base and judge, and put them together. The only way from here to torch."""
        from .local_engine import engine_here

        return engine_here(self, source, parts, batch_size, store, watched)


def check_attackable(mode: Mode, ending: StopCondition, *, torch: bool, unkept: str = "") -> None:
    """Ask whether this session may attack, and where it does so itself, has what attacks need.

    Raises:
        CannotAttack: names the reason and the mend.
    """
    if mode is Mode.REQUIRE:
        if unkept:
            raise AttackUnavailable(f"--unlearndiff-cache=require answers from the store alone, and {unkept}")
        raise AttackUnavailable(
            "--unlearndiff-cache=require forbids drawing anything new: run once without it to fill in what is missing"
        )
    if ending.overdue:
        raise AttackUnavailable(ending.mend)
    if not torch:
        return
    try:
        import_libraries()
    except ModuleNotFoundError as error:
        raise AttackUnavailable(
            f'{error.name} is not installed, and without it nothing is drawn: pip install "pytest-unlearndiff[torch]"'
        ) from None
