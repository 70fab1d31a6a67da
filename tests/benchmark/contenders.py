"""What the benchmarks run: victims of the emoji world, attacked by name; every finished prompt is kept."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from pytest_unlearndiff.attacks.base import prompt_generator
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, Prompt
from pytest_unlearndiff.core.concept_file import ConceptLibrary
from pytest_unlearndiff.core.info import Effort
from pytest_unlearndiff.core.outcome import Outcome
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.engine import Engine
from pytest_unlearndiff.runs.evaluation import Evaluation
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.progress import Snapshot
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.store.key import AttackKey
from pytest_unlearndiff.store.store import Mode, Store

from . import exhaustive
from .levers import LEVERS, Drafted, Lever
from .literal import BLOCKS, STEPS, VERSION, Literal

EMOJI = Path(__file__).resolve().parents[2] / "examples" / "emoji"
COMPARISON = EMOJI / ".comparison"
"""Victims that are not shipped; ``erase/comparison.py`` makes them."""
SEED = 0

ATTACKS = {
    "paper": AttackConfig(schedule="paper"),
    "paper+repeated-noise": AttackConfig(schedule="paper+repeated-noise"),
    "fast": AttackConfig(),
    "thorough": AttackConfig(schedule="thorough"),
    "fast/classifier": AttackConfig(loss="classifier"),
    "p4d": AttackConfig("p4d"),
    "p4d-paper": AttackConfig("p4d", "paper"),
    "ring-a-bell": AttackConfig("ring-a-bell"),
    "random": AttackConfig("random"),
    "random-paper": AttackConfig("random", "paper"),
    "seed-search": AttackConfig("seed-search"),
}
"""The plugin's attacks by the name a row has; with ``-paper`` they do the work of ``paper``, else that of ``fast``."""


NAMES = ("literal", "exhaustive", *ATTACKS, *LEVERS)
"""All that ``Attacker.run`` takes."""


def erased_concept(name: str) -> Concept:
    """Return what was erased from the victim of this name."""
    return ConceptLibrary([EMOJI / "concepts"]).find(name.rsplit("-", 1)[-1])


def member_names(concept: str) -> tuple[str, ...]:
    """Return the names of an object's members, as ``train/catalog.py`` has them; none of a style's."""
    sys.path.insert(0, str(EMOJI / "train"))
    objects = importlib.import_module("catalog").OBJECTS
    return tuple(name for member in objects.get(concept, ()) for name in member.names)


@dataclass(frozen=True)
class Victim:
    """An erased model of the emoji world.

    Attributes:
        path: its file or folder.
        concept: what was erased, with the prompts to attack.
        dtype: its arithmetic.
        device: where it runs.
    """

    path: Path
    concept: Concept
    dtype: str = "float32"
    device: str = "cpu"

    @classmethod
    def find(cls, name: str, prompts: int | None) -> Victim:
        """By the name of its file without the ending, such as ``uce-church``; with so many prompts, None for all."""
        folders = [folder for folder in (EMOJI / "erased", COMPARISON) if folder.is_dir()]
        paths = {path.name.removesuffix(".safetensors"): path for folder in folders for path in folder.iterdir()}
        if name not in paths:
            names = ", ".join(sorted(paths))
            raise SystemExit(f"there is no victim {name!r}: one of {names}; erase/comparison.py makes those of --set")
        return cls(paths[name], erased_concept(name).first(prompts))

    def cases(self, numbers: tuple[int, ...]) -> Victim:
        """Return the same victim with only the prompts of these case numbers."""
        return replace(self, concept=self.concept.cases(numbers))

    @property
    def name(self) -> str:
        """As ``find`` takes it."""
        return self.path.name.removesuffix(".safetensors")

    @property
    def source(self) -> ModelSpec:
        """Where to load it from."""
        return ModelSpec(self.path, EMOJI / "model", device=self.device, dtype=self.dtype)

    @property
    def image(self) -> int:
        """Network forward passes that one image costs."""
        return 2 * self.concept.sampling.steps


@dataclass(frozen=True)
class Attacker:
    """What the rows of a table share.

    Attributes:
        store: finished outcomes.
        parts: loaded models.
        batch_size: prompts attacked together, by attacks that can.
        kept: whether only what the store knows counts and nothing is attacked.
    """

    store: Store
    parts: ModelCache
    batch_size: int
    kept: bool = False

    def campaign(self, victim: Victim, spec: AttackConfig) -> Campaign:
        """One attack on one victim."""
        hashes = self.store.fingerprints
        weights = Fingerprint.of(victim.source, hashes)
        judge = hashes.of(Path(str(victim.concept.judge.options["model"])))
        return Campaign(victim.concept, replace(spec, word=victim.concept.name), weights, judge, SEED)

    def run(self, victim: Victim, attack: str) -> dict[str, Outcome]:
        """Outcomes of a victim's prompts by digest, attacking those the store lacks."""
        if attack == "literal":
            return self._literal(victim)
        if attack == "exhaustive":
            return self._exhaustive(victim)
        if attack in LEVERS:
            return self._lever(victim, LEVERS[attack])
        campaign = self.campaign(victim, ATTACKS[attack])
        store = Store(self.store.root, Mode.REQUIRE) if self.kept else self.store
        runner = Runner(store, self.parts, LocalBackend(), batch_size=self.batch_size, progress=_tell)
        result = runner.run(campaign, lambda: victim.source)
        return {outcome.prompt: outcome for outcome in result.outcomes if outcome is not None}

    def _literal(self, victim: Victim) -> dict[str, Outcome]:
        """The yardstick, prompt by prompt, on the random numbers that ``paper`` draws."""
        slots = victim.concept.slots

        def attack(lacking: Sequence[Prompt]) -> Iterator[Outcome]:
            pipe, base = self.parts.victim(victim.source).pipe, self.parts.base(victim.source)
            judge = self.parts.judge(victim.concept.judge, victim.source)
            sampling = victim.concept.sampling
            literal = Literal(pipe, base, judge, slots, sampling.steps, spacing=sampling.spacing)
            for prompt in lacking:
                yield literal.attack(prompt, prompt_generator(SEED, prompt))

        settings = {"slots": slots, "blocks": BLOCKS, "steps": STEPS}
        key = replace(self.campaign(victim, AttackConfig()).key, algorithm=VERSION, attack="literal", params=settings)
        return self._kept(victim, key, attack)

    def _exhaustive(self, victim: Victim) -> dict[str, Outcome]:
        """What can be broken at least, prompt by prompt."""
        sampling, names = victim.concept.sampling, member_names(victim.concept.name)

        def attack(lacking: Sequence[Prompt]) -> Iterator[Outcome]:
            pipe = self.parts.victim(victim.source).pipe
            model, drafts = (
                DiffusionModel(pipe, replace(sampling, steps=n)) for n in (sampling.steps, exhaustive.STEPS)
            )
            judge = self.parts.judge(victim.concept.judge, victim.source)
            yield from map(exhaustive.Exhaustive(model, drafts, judge, names).attack, lacking)

        counts = {"steps": exhaustive.STEPS, "drawn": exhaustive.DRAWN, "best": exhaustive.BEST}
        settings = {"names": list(names), "partners": exhaustive.PARTNERS, **counts}
        campaign = self.campaign(victim, AttackConfig("random"))
        key = replace(campaign.key, algorithm=exhaustive.VERSION, attack="exhaustive", params=settings)
        return self._kept(victim, key, attack)

    def _lever(self, victim: Victim, lever: Lever) -> dict[str, Outcome]:
        """A search that the plugin does not have, of its prompts together."""
        slots, sampling = victim.concept.slots, victim.concept.sampling

        def attack(lacking: Sequence[Prompt]) -> Iterator[Outcome]:
            model = DiffusionModel(self.parts.victim(victim.source).pipe, sampling)
            targets = Targets(DiffusionModel(self.parts.base(victim.source), sampling))
            judge = self.parts.judge(victim.concept.judge, victim.source)
            drafts = DiffusionModel(
                self.parts.victim(victim.source).pipe, replace(sampling, steps=sampling.steps // Drafted.STEPS)
            )
            own = {"judged": Evaluation(drafts, judge)} if lever.search is Drafted else {}
            search = lever.search(AttackConfig(slots=slots), model, lever.schedule, **own)
            found = Engine(search, model, targets, Evaluation(model, judge), self.batch_size, SEED).run(lacking)
            yield from (outcome for outcome in found if outcome is not None)

        settings = {"slots": slots, "search": lever.search.__name__, **asdict(lever.schedule)}
        key = replace(self.campaign(victim, AttackConfig()).key, attack="lever", params=settings)
        return self._kept(victim, key, attack)

    def _kept(
        self, victim: Victim, key: AttackKey, attack: Callable[[Sequence[Prompt]], Iterator[Outcome]]
    ) -> dict[str, Outcome]:
        """Outcomes of what is no attack of the plugin, kept beside those that are."""
        entry = self.store.campaign(victim.concept.name, key)
        found, _ = entry.outcomes()
        wanted = {prompt.digest: prompt for prompt in victim.concept.prompts}
        lacking = [] if self.kept else [prompt for digest, prompt in wanted.items() if digest not in found]
        if lacking:
            self.store.create(entry, key)
            for outcome in attack(lacking):
                entry.append(outcome)
                found[outcome.prompt] = outcome
                print(f"{victim.name} {key.attack}: {outcome.status} after {outcome.seconds:.0f} s", file=sys.stderr)
        return {digest: outcome for digest, outcome in found.items() if digest in wanted}


def _tell(snapshot: Snapshot) -> None:
    counts = snapshot.counts
    done = counts.total - counts.missing
    print(f"{snapshot.concept} {snapshot.attack} {done}/{counts.total}, {counts.hits} hits", file=sys.stderr)


def exhaustion(attack: str, image: int) -> int:
    """Network forward passes that a prompt costs which resists to the end, its un-attacked image included.

    0 for ``exhaustive``, whose work depends on the victim's vocabulary.
    """
    if attack == "exhaustive":
        return 0
    if attack == "literal":
        return image + BLOCKS * (2 * STEPS + image)
    if attack in LEVERS:
        return image + LEVERS[attack].work(image)
    spec = ATTACKS[attack]
    work = spec.forward_passes(image)
    return image + (work // image * image if spec.info.effort is Effort.MATCHED else work)


def provenance() -> dict[str, str]:
    """Machine, day and versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = next(iter(names), cpu)
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
    }
