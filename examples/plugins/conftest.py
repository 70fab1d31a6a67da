"""Registers the rows of this folder's modules, each of which holds one implementation."""

from __future__ import annotations

import pytest

from pytest_unlearndiff import AttackInfo, DefenseInfo, FamilyInfo, FormatInfo, JudgeInfo, ReportInfo


def pytest_unlearndiff_register(
    config: pytest.Config,
) -> list[AttackInfo | DefenseInfo | FamilyInfo | FormatInfo | JudgeInfo | ReportInfo]:
    """Register one of each.

    They are an attack, for gates that say ``attack="echo"``; a judge, for ``judge: {kind: red}``; a defense, for
    ``--unlearndiff-defense=guidance-cap:scale=2``; a report, for ``--unlearndiff-report=csv:gates.csv``; and a
    checkpoint format and a family of models, which a model's files tell.
    """
    return [
        AttackInfo("echo", "echo_attack:EchoAttack", version="1", uses_slots=False, uses_word=False),
        JudgeInfo("red", "red_judge:RedJudge", version="1", optional={"threshold": float}),
        DefenseInfo(
            "guidance-cap",
            "guidance_cap:GuidanceCap",
            version="1",
            description="guidance of at most {scale}",
            options=("scale",),
        ),
        FormatInfo("weight-deltas", "weight_deltas:read_deltas", version="1", every_name=r"delta\."),
        FamilyInfo(
            "latent-consistency",
            "latent_consistency:LatentConsistency",
            version="1",
            title="latent consistency models",
            pipeline="diffusers:LatentConsistencyModelPipeline",
            components={
                "unet": ("UNet2DConditionModel",),
                "text_encoder": ("CLIPTextModel",),
                "vae": ("AutoencoderKL",),
            },
            network="unet",
            load_options={"image_encoder": None},
            load_options_unchecked={
                "feature_extractor": None,
                "safety_checker": None,
                "requires_safety_checker": False,
            },
        ),
        ReportInfo("csv", "csv_report:csv_report", version="1"),
    ]
