"""Images of a session: those of every prompt, and the few that a reviewer has to see first."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from ..core.attack_config import is_unattacked
from ..core.concept import Prompt
from ..core.outcome import Status
from ..store.store import Store
from ..store.thumbnails import Thumbnails, near_miss, with_embedding
from .gate_report import GateReport
from .gate_report_parts import MISSING, PromptReport
from .session_report import SessionReport

IMAGE_BYTES = 8_000_000
"""Base64 characters of images by prompt: with those in sight, browsers open the file at once, and it fits a mail."""

_SHOWN = 3
_GATES = 8

# Whose images are shown first where not all fit.
_IMAGES_FIRST = (
    Status.HIT_UNDER_ATTACK,
    Status.HIT_WITHOUT_ATTACK,
    Status.ERROR,
    Status.BLOCKED,
    Status.RESISTED,
    MISSING,
)


@dataclass(frozen=True)
class PromptImages:
    """Images of one prompt as WebP in base64; empty where none is kept.

    Attributes:
        base: of the un-erased model.
        unattacked: of the model under test, of the prompt as it stands.
        attacked: of the model under test, under attack: the hit or, of a prompt that resisted, the closest miss.
    """

    base: str = ""
    unattacked: str = ""
    attacked: str = ""

    @property
    def size(self) -> int:
        """Characters of all three."""
        return len(self.base) + len(self.unattacked) + len(self.attacked)

    def as_list(self) -> list[str]:
        """Return base, un-attacked and attacked image."""
        return [self.base, self.unattacked, self.attacked]


@dataclass(frozen=True)
class SessionImages:
    """Images by gate and prompt.

    Attributes:
        images: by node id, key and digest of the prompt.
        left_out: prompts whose images did not fit.
    """

    images: dict[tuple[str, str, str], PromptImages]
    left_out: int = 0

    def of(self, gate: GateReport, prompt: PromptReport) -> PromptImages:
        """Return the images of a prompt."""
        return self.images.get((gate.nodeid, gate.key, prompt.digest), PromptImages())


@dataclass(frozen=True)
class Exhibit:
    """A prompt with its images, side by side.

    Attributes:
        prompt: the prompt.
        images: title and image in base64.
    """

    prompt: PromptReport
    images: list[tuple[str, str]]


@dataclass(frozen=True)
class Evidence:
    """The strongest evidence of a gate.

    Attributes:
        title: of the group.
        gate: the gate.
        exhibits: prompts with images.
    """

    title: str
    gate: GateReport
    exhibits: list[Exhibit]


def read_images(session: SessionReport, store: Store | None, room: int | None = None) -> SessionImages:
    """Read the images of all prompts, the worst first, until there is no room.

    Args:
        session: the session.
        store: holds thumbnails; None for none.
        room: characters; ``IMAGE_BYTES`` where not given.
    """
    images: dict[tuple[str, str, str], PromptImages] = {}
    left_out, room = 0, IMAGE_BYTES if room is None else room
    if store is None:
        return SessionImages(images)
    # One for all prompts of a gate: a shared store is asked once.
    readers = {id(gate): _GateImages(store, gate) for gate in session.gates}
    for status in _IMAGES_FIRST:
        for gate in (*session.gone, *session.kept):
            for prompt in gate.ended(status):
                three = readers[id(gate)].read(prompt)
                if three.size > room:
                    left_out += 1
                elif three.size:
                    room -= three.size
                    images[gate.nodeid, gate.key, prompt.digest] = three
    return SessionImages(images, left_out)


class _GateImages:
    """Reads the images of a gate's prompts.

    Args:
        store: holds thumbnails.
        gate: the gate.
    """

    def __init__(self, store: Store, gate: GateReport) -> None:
        self._victim = store.thumbnails(gate.concept, gate.key)
        # The base's own images of a concept that must be kept are of a campaign of its own.
        self._base = store.thumbnails(gate.concept, gate.base.key) if gate.base is not None else None

    def read(self, prompt: PromptReport) -> PromptImages:
        """Read the images of a prompt."""
        base = self._base.read(prompt.digest) if self._base is not None else self._victim.read(prompt.digest, base=True)
        attacked = _attacked(self._victim, prompt)
        return PromptImages(_encode(base), _encode(self._victim.read(prompt.unattacked.digest)), _encode(attacked))


def _attacked(victim: Thumbnails, prompt: PromptReport) -> bytes | None:
    if prompt.embedding is not None:
        seed = prompt.seed if prompt.drawn is None else prompt.drawn
        drawn = Prompt(prompt.text, seed, prompt.guidance, prompt.case)
        return victim.read(with_embedding(drawn.digest, prompt.embedding))
    if (attacked := prompt.attacked) is not None:
        return victim.read(attacked.digest)
    return victim.read(near_miss(prompt.digest)) if prompt.status == Status.RESISTED else None


def _encode(data: bytes | None) -> str:
    return "" if data is None else base64.b64encode(data).decode("ascii")


def strongest_evidence(session: SessionReport, images: SessionImages) -> list[Evidence]:
    """Choose the images that are shown in sight: of each gate, those that say most."""
    gates = (*session.gone, *session.kept)
    return [evidence for gate in gates[:_GATES] for evidence in _evidence(gate, images)]


def _evidence(gate: GateReport, images: SessionImages) -> Iterator[Evidence]:
    if gate.kept:
        lost_first = sorted(gate.prompts, key=lambda prompt: prompt.hit)
        yield from _group("kept concept, base against model under test", gate, lost_first, images, (0, 1))
    elif is_unattacked(gate.attack):
        hits_first = sorted(gate.prompts, key=lambda prompt: not prompt.hit)
        yield from _group("drawn, not attacked", gate, hits_first, images, (0, 1))
    else:
        yield from _group("broken under attack", gate, gate.ended(Status.HIT_UNDER_ATTACK), images, (0, 1, 2))
        yield from _group("needs no attack", gate, gate.ended(Status.HIT_WITHOUT_ATTACK), images, (0, 1))
        misses = [prompt for prompt in gate.ended(Status.RESISTED) if images.of(gate, prompt).attacked]
        yield from _group("resisted; the attacked image that came closest", gate, misses, images, (0, 1, 2))


_TITLES = ("base", "under test", "attacked")


def _group(
    title: str, gate: GateReport, prompts: list[PromptReport], images: SessionImages, columns: tuple[int, ...]
) -> Iterator[Evidence]:
    exhibits = []
    for prompt in prompts:
        three = images.of(gate, prompt)
        if three.size:
            named = zip(_TITLES, three.as_list(), strict=True)
            exhibits.append(Exhibit(prompt, [pair for number, pair in enumerate(named) if number in columns]))
    if exhibits:
        yield Evidence(title, gate, exhibits[:_SHOWN])
