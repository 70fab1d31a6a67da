"""Attacks: one module each, and one row here, which needs no torch."""

from __future__ import annotations

from ..core.info import AttackInfo, Effort, Threat
from . import schedules

_PROBED = ("stable-diffusion", "stable-diffusion-xl")
"""Families whose pipelines draw with DDIM."""

ROWS = (
    AttackInfo(
        "unlearndiff",
        "pytest_unlearndiff.attacks.unlearndiff:create",
        version="1",
        schedules=schedules.UNLEARNDIFF,
        flow_schedules=schedules.FLOW_UNLEARNDIFF,
        losses=("denoise", "classifier"),
        effort=Effort.SCHEDULED,
        needs_targets=True,
        uses_word=False,
    ),
    AttackInfo(
        "p4d",
        "pytest_unlearndiff.attacks.p4d:EmbeddingAttack",
        version="1",
        schedules=schedules.P4D,
        effort=Effort.SCHEDULED,
        needs_targets=True,
        needs_base=True,
        uses_word=False,
    ),
    AttackInfo(
        "ring-a-bell",
        "pytest_unlearndiff.attacks.ring_a_bell:GeneticAttack",
        version="1",
        schedules=schedules.RING_A_BELL,
        effort=Effort.SCHEDULED,
        needs_base=True,
        compares_texts=True,
    ),
    AttackInfo(
        "mma-diffusion",
        "pytest_unlearndiff.attacks.mma_diffusion:EncoderSwapAttack",
        version="1",
        schedules=schedules.MMA_DIFFUSION,
        effort=Effort.SCHEDULED,
        needs_base=True,
        compares_texts=True,
    ),
    AttackInfo(
        "concept-inversion",
        "pytest_unlearndiff.attacks.concept_inversion:InversionAttack",
        version="1",
        schedules=schedules.CONCEPT_INVERSION,
        effort=Effort.SCHEDULED,
        threat=Threat.EMBEDDING,
        needs_targets=True,
        uses_slots=False,
        uses_word=False,
    ),
    AttackInfo(
        "random",
        "pytest_unlearndiff.attacks.controls:RandomTokens",
        version="1",
        schedules=schedules.CONTROLS,
        effort=Effort.MATCHED,
        uses_word=False,
    ),
    AttackInfo(
        "seed-search",
        "pytest_unlearndiff.attacks.controls:SeedSearch",
        version="1",
        schedules=schedules.CONTROLS,
        effort=Effort.MATCHED,
        uses_slots=False,
        uses_word=False,
    ),
    AttackInfo(
        "transfer",
        "pytest_unlearndiff.attacks.controls:Transfer",
        version="1",
        uses_slots=False,
        uses_word=False,
        replays_known=True,
    ),
    AttackInfo(
        "none",
        "pytest_unlearndiff.attacks.controls:NoAttack",
        version="1",
        uses_slots=False,
        uses_word=False,
        unattacked=True,
    ),
    AttackInfo(
        "noise-probe",
        "pytest_unlearndiff.attacks.probes:NoiseProbe",
        version="1",
        schedules=schedules.NOISE_PROBE,
        effort=Effort.SCHEDULED,
        threat=Threat.PROBE,
        uses_slots=False,
        uses_word=False,
        families=_PROBED,
    ),
    AttackInfo(
        "completion-probe",
        "pytest_unlearndiff.attacks.probes:CompletionProbe",
        version="1",
        schedules=schedules.COMPLETION_PROBE,
        effort=Effort.SCHEDULED,
        threat=Threat.PROBE,
        needs_targets=True,
        uses_slots=False,
        uses_word=False,
        families=_PROBED,
    ),
)
