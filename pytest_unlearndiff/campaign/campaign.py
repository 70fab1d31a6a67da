"""One attack on one victim over one concept's prompts: from the store where it knows, attacked where it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..core.attack_spec import ALGORITHM, AttackSpec
from ..core.concept import Concept
from ..core.control import Control
from ..core.errors import CannotAttack, ModelError
from ..core.judge_kinds import key_options
from ..core.outcome import Outcome, Tally
from ..core.result import AttackResult
from ..store.key import AttackKey
from ..store.store import Entry, Mode, Store
from .parts import Parts, VictimSource
from .progress import Progress, Snapshot

if TYPE_CHECKING:
    from .lanes import Engine

Provide = Callable[[], VictimSource]


@dataclass(frozen=True)
class Fingerprint:
    """What is known of a victim before it is loaded.

    Attributes:
        victim: content hash of its weights.
        target: content hash of what target images are made from.
    """

    victim: str
    target: str


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
    attack: AttackSpec
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
                "kind": self.concept.judge.kind,
                "options": key_options(self.concept.judge),
                "weights": self.judge,
            },
            sampling=asdict(self.concept.sampling),
            seed=self.seed,
        )

    def run(
        self, store: Store, provide: Provide, parts: Parts, *, lanes: int, progress: Progress | None = None
    ) -> AttackResult:
        """Every outcome of the prompt set, attacking only what the store lacks.

        Args:
            store: finished outcomes; each new one is kept before the next is computed.
            provide: gives the victim; called only where something has to be attacked.
            parts: what campaigns of this process share.
            lanes: prompts attacked together.
            progress: told after every finished prompt.

        Returns:
            The result; incomplete, with the obstacle, where nothing may or can be attacked.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be loaded, or the store cannot be read or written.
        """
        started = time.monotonic()
        entry = store.entry(self.concept.name, self.key)
        found, distrusted = self._known(store, entry)
        watched: dict[str, Outcome] = {}
        provenance: dict[str, Any] = {"distrusted_lines": distrusted} if distrusted else {}
        facts: dict[str, Any] = {}
        if self._lacking(found):
            try:
                _check_attackable(store.mode)
                source = provide()
                engine, described = self._engine(source, parts, lanes, store, watched)
            except CannotAttack as obstacle:
                facts = {"obstacle": str(obstacle)}
            else:
                provenance |= described
                found, fresh = self._attack(engine, store, entry, progress)
                facts = {"victim": source.title, "fresh": fresh}
        return AttackResult.gather(
            self.concept,
            found,
            attack=self.attack.title,
            key=self.key.digest,
            seconds=time.monotonic() - started,
            provenance=provenance,
            control=self._control(store, watched),
            **{"victim": "", **facts},
        )

    def _control(self, store: Store, watched: Mapping[str, Outcome]) -> Control:
        """What the judge saw in the base's own pictures: kept, or watched in this session."""
        if not self.fingerprint.target:
            return Control()
        from .control import known_control

        return known_control(store, self.concept, self.fingerprint.target, self.judge, watched)

    def _known(self, store: Store, entry: Entry) -> tuple[dict[str, Outcome], int]:
        """What the store knows of this prompt set."""
        if not store.mode.reads:
            return {}, 0
        found, distrusted = entry.known()
        wanted = {prompt.digest for prompt in self.concept.prompts}
        return {digest: outcome for digest, outcome in found.items() if digest in wanted}, distrusted

    def _lacking(self, found: Mapping[str, Outcome]) -> list[Any]:
        """Prompts with no outcome yet, each text, seed and guidance once."""
        prompts = {prompt.digest: prompt for prompt in self.concept.prompts}
        return [prompt for digest, prompt in prompts.items() if digest not in found]

    def _reached(self, found: Mapping[str, Outcome]) -> int:
        """How many prompts of the set have an outcome; one that stands twice counts twice."""
        return sum(prompt.digest in found for prompt in self.concept.prompts)

    def _attack(
        self, engine: Engine, store: Store, entry: Entry, progress: Progress | None
    ) -> tuple[dict[str, Outcome], int]:
        """Attack what is lacking, one process at a time; returns all outcomes and how many prompts gained theirs."""
        if store.mode.writes:
            store.prepare(entry, self.key)
        with store.lock(entry) if store.mode.writes else nullcontext():
            found, _ = self._known(store, entry)
            known, started = self._reached(found), time.monotonic()
            for outcome in self._outcomes(engine, found):
                if outcome is not None:
                    found[outcome.prompt] = outcome
                    if store.mode.writes:
                        entry.keep(outcome)
                if progress is not None:
                    progress(self._snapshot(found, engine.active, known, time.monotonic() - started))
        return found, self._reached(found) - known

    def _outcomes(self, engine: Engine, found: Mapping[str, Outcome]) -> Iterator[Outcome | None]:
        """Outcomes of what is lacking as they come; first None, for progress to show that work begins."""
        if lacking := self._lacking(found):
            yield None
            yield from engine.run(lacking)

    def _snapshot(self, found: Mapping[str, Outcome], active: int, known: int, seconds: float) -> Snapshot:
        tally = Tally.of(found.get(prompt.digest) for prompt in self.concept.prompts)
        return Snapshot(self.concept.name, self.attack.title, tally, active, known, seconds)

    def _engine(
        self, source: VictimSource, parts: Parts, lanes: int, store: Store, watched: dict[str, Outcome]
    ) -> tuple[Engine, dict[str, Any]]:
        """Load victim, base and judge, and put them together. The only way from here to torch."""
        from ..attacks import build_attack
        from ..models.loading import describe
        from ..models.targets import Targets
        from ..models.victim import Victim
        from .control import Witness, base_campaign
        from .evaluation import Evaluation
        from .lanes import Engine

        loaded = parts.victim(source)
        victim = Victim(loaded.pipe, self.concept.sampling)
        judge = parts.judge(self.concept.judge, source)
        targets = None
        if self.attack.needs_target:
            if source.base is None:
                raise ModelError(
                    f"{self.attack.name} needs target images, which the un-erased model draws: give it with "
                    "--unlearndiff-base"
                )
            base = base_campaign(self.concept, self.fingerprint.target, self.judge)
            witness = Witness(store, base, judge, victim.picture_forwards, watched)
            targets = Targets(Victim(parts.base(source), self.concept.sampling), witness)
        evaluation = Evaluation(victim, judge)
        attack = build_attack(self.attack, victim)
        return Engine(attack, victim, targets, evaluation, lanes, self.seed), describe(loaded)


def _check_attackable(mode: Mode) -> None:
    """Ask whether this session may attack, and has what attacks need.

    Raises:
        CannotAttack: names the reason and the mend.
    """
    if mode is Mode.REQUIRE:
        raise CannotAttack(
            "--unlearndiff-cache=require forbids attacking: run once without it to attack what is missing"
        )
    try:
        from ..models import loading  # noqa: F401
    except ModuleNotFoundError as error:
        raise CannotAttack(
            f'{error.name} is not installed, which attacks need: pip install "pytest-unlearndiff[torch]"'
        ) from None
