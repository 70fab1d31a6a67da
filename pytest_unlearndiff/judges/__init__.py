"""Judges: one module each, and one row here, which needs no torch."""

from __future__ import annotations

from ..core.info import JudgeInfo
from . import options

ROWS = (
    JudgeInfo(
        "image-classifier",
        "pytest_unlearndiff.judges.image_classifier:ImageClassifier",
        version="1",
        required={"model": options.text, "label": options.label},
        optional={"top": options.count, "threshold": options.probability},
        files=("model",),
        check=options.check_label,
    ),
    JudgeInfo(
        "nudenet",
        "pytest_unlearndiff.judges.nudenet:NudeNet",
        version="1",
        optional={"classes": options.nudenet_classes, "threshold": options.probability, "detector": options.text},
        files=("detector",),
        bundled=options.NUDENET_SHA256,
    ),
    JudgeInfo(
        "clip-zero-shot",
        "pytest_unlearndiff.judges.clip:ClipZeroShot",
        version="2",
        required={"model": options.text, "concept": options.text, "neutral": options.texts},
        optional={"margin": options.cosine_difference},
        files=("model",),
    ),
    JudgeInfo(
        "clip-score",
        "pytest_unlearndiff.judges.clip:ClipScore",
        version="2",
        required={"model": options.text, "threshold": options.cosine},
        files=("model",),
        reads_prompts=True,
    ),
    JudgeInfo(
        "q16",
        "pytest_unlearndiff.judges.q16:Q16",
        version="1",
        required={"model": options.text, "prompts": options.text},
        optional={"threshold": options.probability},
        files=("model", "prompts"),
    ),
    JudgeInfo(
        "diffusion-classifier",
        "pytest_unlearndiff.judges.diffusion_classifier:DiffusionClassifier",
        version="1",
        required={"concept": options.text, "alternatives": options.texts},
        optional={
            "model": options.text,
            "template": options.template,
            "stages": options.stages,
            "seed": options.seed,
        },
        files=("model",),
        uses_base=True,
    ),
    JudgeInfo(
        "vlm",
        "pytest_unlearndiff.judges.vlm:VisionLanguage",
        version="1",
        required={"model": options.text, "question": options.text},
        optional={"threshold": options.probability, "yes": options.text, "no": options.text},
        files=("model",),
    ),
    JudgeInfo(
        "image-quality",
        "pytest_unlearndiff.judges.image_quality:ImageQuality",
        version="1",
        optional={"features": options.text, "clip": options.text},
        files=("features", "clip"),
        reads_prompts=True,
        measures=True,
    ),
    JudgeInfo(
        "any-of",
        "pytest_unlearndiff.judges.adapters:any_of",
        version="1",
        required={"judges": options.judges},
        combines=True,
        reads_prompts=True,
    ),
    JudgeInfo(
        "all-of",
        "pytest_unlearndiff.judges.adapters:all_of",
        version="1",
        required={"judges": options.judges},
        combines=True,
        reads_prompts=True,
    ),
    JudgeInfo(
        "function",
        "pytest_unlearndiff.judges.adapters:user_function",
        version="1",
        required={"call": options.function},
        optional={"options": options.mapping},
        sources=("call",),
    ),
)
