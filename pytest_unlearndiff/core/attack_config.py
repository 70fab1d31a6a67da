"""An attack with its settings, without torch: validated, named for reports, and hashed into an outcome's key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from .concept import Prompt
from .errors import GateError
from .info import AttackInfo, Effort, Schedule, TargetSampling, Threat
from .known_prompts import NOTHING_KNOWN, KnownPrompts
from .registry import registry
from .untrusted import MOST_IMAGES_PER_PROMPT, MOST_SLOTS, is_count, short_repr, whole_form

ALGORITHM = 3
"""Version of the attacks' mathematics. Raised when a change may change outcomes, so that old ones stop counting."""

DEFAULT_ATTACK = "unlearndiff"
DEFAULT_SCHEDULE = "fast"
DEFAULT_LOSS = "denoise"
NO_ATTACK = "none"
"""The attack that judges un-attacked images alone."""
Placement = Literal["prefix", "suffix", "mid", "insert"]
PLACEMENTS: tuple[str, ...] = get_args(Placement)


def attack_names() -> tuple[str, ...]:
    """Return the names of all attacks."""
    return tuple(registry().attacks)


def schedule_names() -> tuple[str, ...]:
    """Return the names of all attacks' schedules."""
    return _union(info.schedules for info in registry().attacks.values())


def loss_names() -> tuple[str, ...]:
    """Return the names of all attacks' losses."""
    return _union(info.losses for info in registry().attacks.values())


def _union(rows: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row))


def is_unattacked(title: str) -> bool:
    """Return whether an attack of this name or title judges un-attacked images alone."""
    info = _row(title)
    return info is not None and info.unattacked


def threat_of(title: str) -> Threat:
    """Return the threat model of an attack of this name or title; text for one that is not known in this process."""
    info = _row(title)
    return Threat.TEXT if info is None else info.threat


def _row(title: str) -> AttackInfo | None:
    """Return the row of an attack of this name or title; None for one that is not known in this process."""
    return registry().attacks.get(title.partition(",")[0].partition("/")[0])


@dataclass(frozen=True)
class AttackConfig:
    """An attack with its settings.

    Attributes:
        name: one of ``attack_names()``.
        schedule: one of ``schedule_names()``; ignored by attacks without schedules.
        slots: number of adversarial tokens.
        placement: their place in the prompt, one of PLACEMENTS.
        loss: one of ``loss_names()``; ignored by attacks that have no choice.
        word: the concept's word, for attacks that look for its direction.
        known: adversarial prompts to replay.
        images_per_prompt: images drawn without attack and after every round, with other seeds; a prompt draws the
            concept if any of them shows it.
        flow: whether the victim was trained by flow matching, so that some schedules are others.

    Raises:
        GateError: a setting is unknown or does not fit the attack; the message names it and its possible values.
    """

    name: str = DEFAULT_ATTACK
    schedule: str = DEFAULT_SCHEDULE
    slots: int = 3
    placement: Placement = "prefix"
    loss: str = DEFAULT_LOSS
    word: str = ""
    known: KnownPrompts = NOTHING_KNOWN
    images_per_prompt: int = 1
    flow: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown settings and combinations that do not fit."""
        values: tuple[tuple[str, object, tuple[str, ...]], ...] = (  # as annotated, or whatever a marker gave
            ("attack", self.name, attack_names()),
            ("schedule", self.schedule, schedule_names()),
            ("placement", self.placement, PLACEMENTS),
            ("loss", self.loss, loss_names()),
        )
        for setting, value, choices in values:
            if not isinstance(value, str) or value not in choices:
                raise GateError(f"{setting}={short_repr(value)} is not known: one of {', '.join(choices)}")
        counts: tuple[tuple[str, object, int], ...] = (
            ("slots", self.slots, MOST_SLOTS),
            ("images_per_prompt", self.images_per_prompt, MOST_IMAGES_PER_PROMPT),
        )
        for setting, value, most in counts:
            if not is_count(value, most):
                raise GateError(f"{setting}={short_repr(value)} must be {whole_form(1, most)}")
        if self.info.schedules and self.schedule not in self.info.schedules:
            raise GateError(
                f"schedule={self.schedule!r} goes with {_attacks_with_schedule(self.schedule)}, not {self.name}: "
                f"give {' or '.join(map(repr, self.info.schedules))}"
            )
        if self.loss != DEFAULT_LOSS and self.loss not in self._losses:
            raise GateError(f"loss={self.loss!r} goes with {_settings_with_loss(self.loss)}, not {self.title}")

    @property
    def info(self) -> AttackInfo:
        """Row of the attack.

        Raises:
            GateError: it is not known in this process.
        """
        try:
            return registry().attacks[self.name]
        except KeyError:
            raise GateError(f"there is no attack {self.name!r} in this process") from None

    @property
    def settings(self) -> Schedule | None:
        """Schedule of the attack; None for an attack that has none."""
        schedules = {**self.info.schedules, **(self.info.flow_schedules if self.flow else {})}
        return schedules.get(self.schedule)

    @property
    def _losses(self) -> tuple[str, ...]:
        schedule = self.settings
        return tuple(loss for loss in self.info.losses if schedule is not None and loss in schedule.losses)

    @property
    def title(self) -> str:
        """Attack, schedule where it has one, loss and images where they are not the default, as reports name them."""
        schedule = f"/{self.schedule}" if self.info.schedules else ""
        loss = f"/{self.loss}" if self.loss != DEFAULT_LOSS else ""
        images = f", any of {self.images_per_prompt} images per prompt" if self.images_per_prompt > 1 else ""
        return f"{self.name}{schedule}{loss}{images}"

    @property
    def last_round(self) -> int:
        """Rounds on a prompt that resists; 0 where the schedule does not prescribe them."""
        schedule = self.settings
        return schedule.rounds if schedule is not None and self.info.effort is Effort.SCHEDULED else 0

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes of the denoising network on a prompt that resists; 0 where they are not known in advance."""
        schedule = self.settings
        if schedule is None or self.info.effort is Effort.OPEN:
            return 0
        return schedule.forward_passes(self.images_per_prompt * forwards_per_image)

    def matched_rounds(self, forwards_per_image: int) -> int:
        """Return how many rounds of nothing but images cost the forward passes on a prompt that resists."""
        return self.forward_passes(forwards_per_image) // (self.images_per_prompt * forwards_per_image)

    @property
    def needs_target(self) -> bool:
        """True where the attack needs the un-erased model, most often for target images."""
        return self.info.needs_targets or self.info.needs_base

    @property
    def targets(self) -> TargetSampling | None:
        """Sampling of target images; None where they are the base's evaluation images of the prompts."""
        schedule = self.settings
        return schedule.targets if schedule is not None and self.info.needs_targets else None

    @property
    def draws_targets(self) -> bool:
        """True where the base's evaluation images of attacked prompts are drawn as targets, which the judge then sees.

        A target image that is drawn otherwise than evaluation images is no such image.
        """
        return self.info.needs_targets and self.targets is None

    def can_attack(self, prompt: Prompt) -> bool:
        """Return whether there is anything to attack a prompt with; one without stays without an outcome."""
        return not self.info.replays_known or bool(self.known.of(prompt))

    def params(self) -> dict[str, Any]:
        """Return the settings an outcome of this attack depends on, as builtin types."""
        info, schedule = self.info, self.settings
        params: dict[str, Any] = {"version": info.version}
        if schedule is not None:
            params["schedule"] = asdict(schedule)  # type: ignore[call-overload]
        if info.uses_slots:
            params |= {"slots": self.slots, "placement": self.placement}
        if info.losses:
            params["loss"] = self.loss
        if info.uses_word:
            params["word"] = self.word
        if info.replays_known:
            params["known"] = self.known.content
        if self.images_per_prompt > 1:  # so that keys of before there were several stay as they were
            params["images_per_prompt"] = self.images_per_prompt
        return params


def _attacks_with_schedule(schedule: str) -> str:
    names = [info.name for info in registry().attacks.values() if schedule in info.schedules]
    return " or ".join(f"attack={name!r}" for name in names)


def _settings_with_loss(loss: str) -> str:
    pairs = [
        f"attack={info.name!r} and schedule={name!r}"
        for info in registry().attacks.values()
        for name, schedule in info.schedules.items()
        if loss in info.losses and loss in schedule.losses
    ]
    return " or ".join(pairs)
