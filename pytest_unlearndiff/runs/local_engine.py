"""Put together what attacks: victim, base, judge and search, in this process or on workers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.device import AUTO
from ..core.environment import environment_info
from ..core.errors import ModelError
from ..core.outcome import Outcome
from ..core.registry import registry
from ..store.store import Store
from .model_cache import ModelCache, ModelSpec
from .positive_control import ControlRecorder, base_campaign, keep_watched
from .thumbnail_recorder import ThumbnailRecorder

if TYPE_CHECKING:
    from ..models.diffusion_model import DiffusionModel
    from ..models.target_images import Targets
    from ..workers.distributed_engine import DistributedEngine, WorkerPoolConfig
    from ..workers.worker import WorkerUpdate
    from .campaign import Campaign
    from .engine import Engine


def engine_here(
    campaign: Campaign, source: ModelSpec, parts: ModelCache, batch_size: int, store: Store, watched: dict[str, Outcome]
) -> tuple[Engine, dict[str, Any]]:
    """Load victim, base and judge, and put them together. The only way from here to torch."""
    from ..attacks.base import build_attack
    from ..models.diffusion_model import DiffusionModel
    from ..models.loading import describe
    from ..models.precision import matmul_precision
    from .engine import Engine
    from .evaluation import Evaluation

    images = campaign.store_of(store).writable_thumbnails(store.campaign(campaign.concept.name, campaign.key))
    gallery = ThumbnailRecorder(images, campaign.concept.prompts) if images is not None else None
    loaded = parts.victim(source)
    victim = DiffusionModel(
        loaded.pipe,
        campaign.concept.sampling,
        source.defenses,
        safety_checker=source.safety_checker,
        compiled=source.compiled,
    )
    judge = parts.judge(campaign.concept.judge, source)
    loaded = replace(loaded, notes=(*loaded.notes, *_scheduler_notes(loaded.pipe, campaign, source)))
    targets = None
    if campaign.attack.needs_target:
        witnesses: list[Any] = [gallery.targets] if gallery else []
        # What is drawn otherwise than evaluated is no image of the positive control, whose key says how it is drawn.
        if campaign.concept.images or campaign.attack.targets is None:
            shown = base_campaign(campaign.concept, campaign.fingerprint.target, campaign.judge)
            forwards = 0 if campaign.concept.images else victim.forwards_per_image
            witnesses = [ControlRecorder(store, shown, judge, forwards, watched), *witnesses]
        targets = _targets(campaign, victim, source, parts, witnesses)
    evaluation = Evaluation(victim, judge, gallery.judged if gallery else None)
    attack = build_attack(campaign.attack, victim)
    around = partial(matmul_precision, source.dtype)
    described = {**describe(loaded, source.beside), "device": source.device, "dtype": source.dtype}
    return Engine(attack, victim, targets, evaluation, batch_size, campaign.seed, around), described


def _scheduler_notes(pipe: Any, campaign: Campaign, source: ModelSpec) -> list[str]:
    """In what the victim's scheduler is another than its base's, so that images differ beyond what weights do."""
    from ..models.noise_schedules import differences
    from ..models.pipeline_folders import load_scheduler

    if source.base is None or (source.model is None and source.pipe is None):
        return []
    found = differences(pipe.scheduler, load_scheduler(source.base), campaign.concept.sampling)
    return [f"its scheduler differs from its base's in {', '.join(found)}"] if found else []


def _targets(
    campaign: Campaign, victim: DiffusionModel, source: ModelSpec, parts: ModelCache, witnesses: list[Any]
) -> Targets:
    """Where target images come from; witnesses see them."""
    from ..models.diffusion_model import DiffusionModel
    from ..models.target_images import SuppliedTargets, Targets

    target_images, needs_base = campaign.concept.images, campaign.attack.needs_base or not campaign.concept.images
    if source.base is None and needs_base:
        raise ModelError(
            f"{campaign.attack.name} needs the un-erased model, which draws the target images: give it with "
            "--unlearndiff-base"
            + ("" if campaign.attack.needs_base else ", or name images of your own as the concept's targets")
        )
    wanted, sampling = campaign.attack.targets, campaign.concept.sampling
    if wanted is not None:
        sampling = replace(sampling, steps=wanted.steps)
    base = DiffusionModel(parts.base(source), sampling, compiled=source.compiled) if needs_base else None
    if target_images:
        return SuppliedTargets(target_images, victim.image_size, base, witnesses)
    return Targets(base, witnesses, guidance=None if wanted is None else wanted.guidance)


def workers_elsewhere(
    campaign: Campaign,
    crew: WorkerPoolConfig,
    source: ModelSpec,
    batch_size: int,
    store: Store,
    watched: dict[str, Outcome],
) -> tuple[DistributedEngine, dict[str, Any]]:
    """Have processes elsewhere load victim, base and judge; what they learn comes here, and is kept here."""
    from ..workers.distributed_engine import DistributedEngine
    from ..workers.worker import JobSpec, files_of, urls_of

    if source.pipe is not None:
        raise ModelError(
            f"{source.title} cannot be sent to workers: give the model by path, with --unlearndiff-model, or leave "
            "out --unlearndiff-workers"
        )
    if source.device.startswith("cuda"):
        source = replace(source, device="cuda")  # a worker sees only its own GPU
    base = base_campaign(campaign.concept, campaign.fingerprint.target, campaign.judge)
    known = store.outcomes(store.campaign(campaign.concept.name, base.key))[0] if store.mode.reads else {}
    images = store.writable_thumbnails(store.campaign(campaign.concept.name, campaign.key))

    def on_update(update: WorkerUpdate) -> None:
        new = [outcome for outcome in update.control if outcome.prompt not in {**known, **watched}]
        watched.update({outcome.prompt: outcome for outcome in new})
        keep_watched(store, base, new)
        for thumbnail in update.thumbnails:
            if images is not None:
                images.write(thumbnail.digest, thumbnail.data, base=thumbnail.base)

    urls = urls_of(files_of(source, campaign.concept))
    job = JobSpec(campaign, source, batch_size, registry().added, images is not None, urls)
    engine = DistributedEngine(crew, job, on_update)
    return engine, engine.description


def facts_of(campaign: Campaign, source: ModelSpec) -> dict[str, Any]:
    """Where a victim came from and what computes its outcomes, as builtin types for reports."""
    own = campaign.attack.needs_target and bool(campaign.concept.images)
    return {
        **({"target images": "those that the concept names"} if own else {}),
        "victim": source.title,
        # Of workers, each says where it is.
        **({"device": source.device, "dtype": source.dtype} if source.device != AUTO else {}),
        **environment_info("pytest-unlearndiff", "torch", "diffusers", "transformers"),
    }
