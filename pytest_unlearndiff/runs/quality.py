"""Image quality: the campaigns that draw and measure captions, and figures from what they kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..core.attack_config import NO_ATTACK, AttackConfig
from ..core.concept import Concept, Prompt
from ..core.errors import GateError, ModelError
from ..core.outcome import Outcome
from ..core.quality import LIMITS, NETWORKS, Figure, QualityFigures, QualityGate, QualityResult, clip_figure
from ..core.untrusted import MOST_SEED
from ..judges.options import feature_width
from ..sources.resolve import import_string
from ..store.key import digest
from ..store.store import Store
from .campaign import Campaign
from .model_spec import Fingerprint
from .positive_control import base_campaign

FIGURES = 1
"""Version of how figures are computed. Raised when they may change, so that stored ones stop counting."""

_OTHER_SEEDS = 2**31
"""Added to a seed for the reference; a CPU's generator reads the lower 32 bits of one."""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class QualityCampaigns:
    """What draws captions for a gate.

    Images of one caption and seed are much alike, so that a distance between the two models' themselves would be no
    estimate of anything: both are compared with a reference.

    Attributes:
        victim: the model under test.
        base: the un-erased model, with the same seeds.
        reference: the un-erased model with other seeds; None where the user's images are the reference, or none is.
        folder: the user's images.
    """

    victim: Campaign
    base: Campaign
    reference: Campaign | None = None
    folder: Path | None = None

    @classmethod
    def of(cls, concept: Concept, fingerprint: Fingerprint, judge: str, folder: Path | None = None) -> QualityCampaigns:
        """Return the campaigns of a caption set.

        Args:
            concept: the captions, as the model's family has them, with what measures them as the judge.
            fingerprint: of the model under test and its base.
            judge: content hash of what measures.
            folder: images of the user's, as the reference.
        """
        base = fingerprint.targets_digest
        victim = Campaign(concept, AttackConfig(NO_ATTACK), replace(fingerprint, targets_digest=""), judge)
        compared = "features" in concept.judge.options
        others = replace(concept, prompts=tuple(map(_with_other_seed, concept.prompts)))
        reference = base_campaign(others, base, judge) if compared and folder is None else None
        return cls(victim, base_campaign(concept, base, judge), reference, folder if compared else None)

    @property
    def named(self) -> tuple[tuple[str, Campaign], ...]:
        """The campaigns, each by the name of its model."""
        sides = ("victim", self.victim), ("base", self.base)
        return (*sides, ("base, other seeds", self.reference)) if self.reference is not None else sides

    @property
    def all(self) -> tuple[Campaign, ...]:
        """The campaigns: victim, base and, where there is one, reference."""
        return tuple(campaign for _, campaign in self.named)

    def figures(self, result: QualityResult, store: Store, device: Callable[[], str]) -> QualityFigures:
        """Compute the figures, or read them where they were computed from the same images.

        Args:
            result: the campaigns' results, complete.
            store: keeps figures beside the victim's outcomes.
            device: returns where a network runs that the user's images need.

        Raises:
            ModelError: the user's images cannot be read.
            ModuleNotFoundError: torchmetrics is not installed.
        """
        own = self.victim.store_of(store)
        folder, of = self.victim.folder(own), self._digest(result, store)
        if own.mode.reads and (kept := folder.figures(of)) is not None:
            return QualityFigures(**{name: Figure(**figure) for name, figure in kept.items()})
        figures = self._compute(result, device)
        if own.mode.writes:
            kept = {name: asdict(figure) for name, figure in vars(figures).items() if figure is not None}
            folder.write_figures(of, kept)
        return figures

    def _digest(self, result: QualityResult, store: Store) -> str:
        """Hash everything that figures are computed from."""
        images = [[(o.prompt, o.image) for o in side.outcomes if o is not None] for _, side in result.sides]
        keys = [campaign.key.digest for _, campaign in self.named]
        return digest([FIGURES, keys, images, store.fingerprints.of(self.folder) if self.folder is not None else ""])

    def _compute(self, result: QualityResult, device: Callable[[], str]) -> QualityFigures:
        options = self.victim.concept.judge.options
        victim, base = result.victim.outcomes, result.base.outcomes
        clip = clip_figure(victim, base) if "clip" in options else None
        if "features" not in options:
            return QualityFigures(clip=clip)
        own, other = _features(victim), _features(base)
        paired, count, width = self.folder is None, len(own), own.shape[1]
        if result.reference is not None:
            reference = _features(result.reference.outcomes)
        else:
            reference = _load("judges.image_quality:features_of_files")(options["features"], self._images(), device())
        kid: Figure = _load("judges.image_distance:kid_figure")(own, other, reference, paired=paired)
        enough = min(count, len(reference)) > width
        fid: Figure | None = _load("judges.image_distance:fid_figure")(own, other, reference) if enough else None
        return QualityFigures(kid, fid, clip)

    def _images(self) -> list[Path]:
        """List the user's images.

        Raises:
            ModelError: there are too few.
        """
        assert self.folder is not None
        paths = sorted(path for path in self.folder.glob("*") if path.suffix.lower() in _SUFFIXES)
        if len(paths) < LEAST_IMAGES:
            kinds = ", ".join(_SUFFIXES)
            raise ModelError(f"{self.folder} has {len(paths)} images ({kinds}), and at least {LEAST_IMAGES} are needed")
        return paths


LEAST_IMAGES = 3
"""Images without which a distance has no error."""


def check_support(concept: Concept, gate: QualityGate) -> None:
    """Refuse captions that are too few for what is asked, and packages that are missing, before anything is drawn.

    Raises:
        GateError: names the number that is needed, or the package.
    """
    for name in gate.limits:
        if (network := LIMITS[name].network) not in concept.judge.options:
            raise GateError(f"{name} needs {network}: {NETWORKS[network]}")
    model, count = concept.judge.options.get("features"), len(concept.prompts)
    if model is not None and find_spec("torchmetrics") is None:
        raise GateError('KID and FID need torchmetrics: pip install "pytest-unlearndiff[quality]"')
    if count < LEAST_IMAGES:
        raise GateError(f"{concept.name} has {count} captions, and at least {LEAST_IMAGES} are compared")
    width = feature_width(str(model))
    if gate.max_fid_increase is not None and width is not None and count <= width:
        raise GateError(
            f"max_fid_increase={gate.max_fid_increase:g} needs more captions than the {width} features of {model}, and "
            f"there are {count}: give at least {width + 1}, or limit KID, which fewer support"
        )


def _with_other_seed(prompt: Prompt) -> Prompt:
    return replace(prompt, seed=(prompt.seed + _OTHER_SEEDS) % (MOST_SEED + 1))


def _features(outcomes: Sequence[Outcome | None]) -> Any:
    """Return features (N, d) of outcomes that have them."""
    unpack = _load("models.tensor_text:unpack")
    return unpack([o.features for o in outcomes if o is not None and o.features is not None])


def _load(name: str) -> Any:
    """Import something that needs torch, which a session that finds all figures in the store never does."""
    return import_string(f"pytest_unlearndiff.{name}")
