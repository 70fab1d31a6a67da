"""The backend of this process: victim, base and judge loaded here, and an engine over them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..core.concept import Prompt
from ..core.device import network_batch
from ..core.errors import ModelError
from ..core.judge_options import weights_of
from ..core.outcome import Outcome
from ..core.registry import registry
from ..store.thumbnails import Thumbnails
from .campaign import Campaign
from .checkpoints import CheckpointId
from .engine_state import EngineState
from .evaluation import Evaluation, ThumbnailRecorder
from .model_cache import ModelCache
from .model_spec import ModelSpec
from .positive_control import ControlRecorder

if TYPE_CHECKING:
    from ..models.diffusion_model import DiffusionModel
    from ..models.generated_images import GeneratedImage
    from ..models.target_images import Targets
    from .engine import Engine


class PromptEngine(Protocol):
    """Attacks prompts.

    Attributes:
        active: prompts being attacked now.
        worker_count: processes that attack; 0 where it is this one.
    """

    active: int
    worker_count: int

    @property
    def state(self) -> EngineState:
        """How far its prompts are, as it was told last."""
        ...

    def run(self, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]) -> Generator[Outcome | None]:
        """Yield outcomes of prompts as they finish, which is not their order; None after each round of work.

        Args:
            prompts: the prompts.
            checkpoints: of prompts whose attack was interrupted, by prompt digest.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be used.
            Exception: what several prompts in a row failed with; the rest is not attacked.
        """
        ...

    def take_checkpoints(self) -> dict[str, bytes]:
        """Checkpoints of prompts in progress, by prompt digest, that are new since the last call."""
        ...


@dataclass(frozen=True)
class EngineRequest:
    """Everything that an engine is built from.

    Attributes:
        campaign: the campaign to attack.
        spec: files, pipeline and settings of the victim.
        models: loaded models of this process.
        batch_size: prompts attacked together; None for as many as a GPU's memory has room for.
        control: keeps what the judge sees in target images.
        thumbnails: keeps images for people; None where none are wanted.
    """

    campaign: Campaign
    spec: ModelSpec
    models: ModelCache
    batch_size: int | None
    control: ControlRecorder
    thumbnails: Thumbnails | None


class Backend(Protocol):
    """Builds engines, in this process or over many."""

    @property
    def needs_torch(self) -> bool:
        """True if this process attacks, and so needs torch."""
        ...

    def build(self, request: EngineRequest) -> tuple[PromptEngine, dict[str, Any]]:
        """Put together what attacks a campaign.

        Returns:
            The engine, and a description of what was loaded, which grows as workers load it.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be used.
        """
        ...


class LocalBackend:
    """Attacks in this process."""

    needs_torch = True

    def build(self, request: EngineRequest) -> tuple[Engine, dict[str, Any]]:
        """Load victim, base and judge; see ``Backend``. It is the only way from here to torch."""
        from ..attacks.base import build_attack
        from ..models.device import matmul_precision, restore_batches
        from ..models.diffusion_model import DiffusionModel
        from ..models.loading import describe
        from .engine import Engine

        campaign, spec, models, thumbnails = request.campaign, request.spec, request.models, request.thumbnails
        if registry().judges[campaign.concept.judge.kind].measures:  # nobody looks at thousands of captions' images
            thumbnails = None
        images = campaign.attack.images_per_prompt
        recorder = ThumbnailRecorder(thumbnails, campaign.concept.prompts, images) if thumbnails is not None else None
        # A judge that is the base itself needs it as often as it judges.
        judged_by_base = str(spec.base) in weights_of(campaign.concept.judge)
        with_base = campaign.attack.info.needs_base or judged_by_base
        loaded = models.victim(spec, with_base=with_base)
        victim = DiffusionModel(
            loaded.pipe,
            campaign.concept.sampling,
            spec.defenses,
            safety_checker=spec.safety_checker,
            compiled=spec.compiled,
        )
        judge = models.judge(campaign.concept.judge, spec)
        loaded = replace(loaded, notes=(*loaded.notes, *_scheduler_notes(loaded.pipe, campaign, spec)))
        targets = None
        if campaign.attack.needs_target:
            observers: list[Any] = [recorder.targets] if recorder else []
            # What is drawn otherwise than evaluated is no image of the positive control, whose key says how.
            if campaign.concept.images or campaign.attack.targets is None:
                forwards = 0 if campaign.concept.images else victim.forwards_per_image

                def see(prompts: Sequence[Prompt], images: Sequence[GeneratedImage]) -> None:
                    request.control.judge(prompts, images, judge, forwards)

                observers.insert(0, see)
            at_work = nullcontext if with_base else partial(models.base_at_work, spec, loaded.pipe)
            targets = _targets(campaign, victim, spec, models, observers, at_work)
        evaluation = Evaluation(victim, judge, recorder.judged if recorder else None, images)
        attack = build_attack(campaign.attack, victim)
        restore_batches(victim.device)
        precision_scope = partial(matmul_precision, spec.dtype)
        description = {**describe(loaded, spec.inference_edits), "device": spec.device, "dtype": spec.dtype}
        description["network_batch"] = network_batch(spec.device)
        owner = CheckpointId.of(campaign)
        engine = Engine(
            attack,
            victim,
            targets,
            evaluation,
            request.batch_size,
            campaign.seed,
            precision_scope,
            owner,
            recorder.attacked if recorder else None,
        )
        engine.description = description
        return engine, description


def _scheduler_notes(pipe: Any, campaign: Campaign, spec: ModelSpec) -> list[str]:
    """Note how the victim's scheduler differs from its base's, so that images differ beyond what weights do."""
    from ..models.families.ddpm import scheduler_differences
    from ..models.pipeline_folders import load_scheduler

    if spec.base is None or (spec.model is None and spec.pipe is None):
        return []
    own, base, sampling = pipe.scheduler, load_scheduler(spec.base), campaign.concept.sampling
    different = scheduler_differences(own, base, sampling)
    notes = [f"its scheduler differs from its base's in {', '.join(different)}"] if different else []
    if sampling.scheduler != "own" and type(own) is not type(base):
        unused = f"its scheduler, {type(own).__name__}, is not used: the concept says scheduler: {sampling.scheduler}"
        notes.append(f"{unused}; scheduler: own tests the model as it is shipped")
    return notes


def _targets(
    campaign: Campaign,
    victim: DiffusionModel,
    spec: ModelSpec,
    models: ModelCache,
    observers: list[Any],
    at_work: Callable[[], AbstractContextManager[None]],
) -> Targets:
    """Choose where target images come from; observers see them, and the base draws them within ``at_work``."""
    from ..models.diffusion_model import DiffusionModel
    from ..models.target_images import SuppliedTargets, Targets

    target_images, needs_base = campaign.concept.images, campaign.attack.info.needs_base or not campaign.concept.images
    if spec.base is None and needs_base:
        raise ModelError(
            f"{campaign.attack.name} needs the un-erased model, which draws the target images: give it with "
            "--unlearndiff-base"
            + ("" if campaign.attack.info.needs_base else ", or name images of your own as the concept's targets")
        )
    settings, sampling = campaign.attack.targets, campaign.concept.sampling
    if settings is not None:
        sampling = replace(sampling, steps=settings.steps)
    base = DiffusionModel(models.base(spec), sampling, compiled=spec.compiled) if needs_base else None
    if target_images:
        return SuppliedTargets(target_images, victim.image_size, base, observers)
    return Targets(base, observers, guidance=None if settings is None else settings.guidance, at_work=at_work)
