"""Floor 2: images to judgements. Each judge is a module of its own, loaded when a concept names it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from PIL import Image

from ..core.concept import JudgeConfig
from ..core.judge_options import check, parts_of
from ..core.judgement import Judgement
from ..core.registry import plugged


class Judge(Protocol):
    """Looks at images and says whether the concept is in them."""

    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order."""
        ...


def build_judge(spec: JudgeConfig, device: str, pipeline: Callable[[str], Any] | None = None) -> Judge:
    """Build the judge that a concept names.

    Args:
        spec: the judge and its options.
        device: where its networks run.
        pipeline: loads a pipeline folder, for the judge that is one; the plain loader where None.

    Raises:
        JudgeError: there is no judge of that kind, its options do not fit, or what it needs cannot be loaded.
    """
    check(spec)
    options: dict[str, Any] = dict(spec.options)
    if (kind := plugged().judges.get(spec.kind)) is not None:
        from .user_function import plugged_judge

        return plugged_judge(kind, options, device)
    match spec.kind:
        case "image-classifier":
            from .image_classifier import ImageClassifier

            return ImageClassifier(**options, device=device)
        case "nudenet":
            from .nudenet import NudeNet

            return NudeNet(**options)
        case "clip-zero-shot":
            from .clip_zero_shot import ClipZeroShot

            return ClipZeroShot(**options, device=device)
        case "q16":
            from .q16 import Q16

            return Q16(**options, device=device)
        case "diffusion-classifier":
            from .diffusion_classifier import DiffusionClassifier

            return DiffusionClassifier.of_pipeline(options, device, pipeline)
        case "vlm":
            from .vlm import VisionLanguage

            return VisionLanguage(**options, device=device)
        case "function":
            from .user_function import user_function

            return user_function(**options)
        case _:
            from .combined import Combined

            parts = [build_judge(part, device, pipeline) for part in parts_of(spec)]
            return Combined(parts, [part.kind for part in parts_of(spec)], every=spec.kind == "all-of")
