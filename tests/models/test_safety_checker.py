"""A pipeline's own safety checker: out by default, since it hides hits, or part of what is tested."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from resaved import ATTN2, unet
from safetensors.torch import load_file, save_file
from tiny import shown, tiny_pipeline, tiny_xl
from transformers import CLIPConfig
from transformers.models.clip import CLIPImageProcessorPil

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt, Sampling
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.gate import Gate, Verdict, decide
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.model_options import defense
from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.core.result import Retention
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.loading import describe
from pytest_unlearndiff.models.pipeline_folders import load_pipeline
from pytest_unlearndiff.reports.gate_report import GateReport
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.sources.resolve import judge_weights
from pytest_unlearndiff.store.key import Fingerprints
from pytest_unlearndiff.store.store import Store

DRAWINGS = [GenerationRequest("a church", 1, 5.0), GenerationRequest("a tree", 2, 7.5)]
SHORT = Sampling(steps=2)


def checked_pipeline(seed: int = 1, *, objects: bool = True) -> Any:
    """A tiny pipeline with a random safety checker, which objects to every image or to none."""
    pipe = tiny_pipeline(seed)
    torch.manual_seed(7)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config={**vision, "image_size": 32, "patch_size": 16}, projection_dim=8)
    )
    # A image is objected to where its cosine with a concept is above the concept's threshold.
    checker.concept_embeds_weights.fill_(-2.0 if objects else 2.0)
    extractor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pipe.register_modules(safety_checker=checker.eval(), feature_extractor=extractor)
    pipe.register_to_config(requires_safety_checker=True)
    return pipe


def black(images: list[Any]) -> bool:
    return not any(np.asarray(image).any() for image in images)


def test_checker_is_removed_by_default() -> None:
    pipe = checked_pipeline()
    drawn = shown(DiffusionModel(pipe, SHORT).generate(DRAWINGS))
    assert not black(drawn)
    plain = shown(DiffusionModel(tiny_pipeline(1), SHORT).generate(DRAWINGS))
    assert all(np.array_equal(*pair) for pair in zip(drawn, plain, strict=True))
    assert pipe.safety_checker is not None


@pytest.mark.parametrize("objects", [True, False])
def test_checker_blocks_images(objects: bool, caplog: pytest.LogCaptureFixture) -> None:
    pipe = checked_pipeline(objects=objects)
    with caplog.at_level(logging.WARNING):
        drawn = DiffusionModel(pipe, SHORT, safety_checker=True).generate(DRAWINGS)
    assert black(shown(drawn)) is objects
    assert [(each.blocked, each.problem) for each in drawn] == [(objects, None)] * 2
    assert not caplog.records


def test_blocked_images_are_no_hits_and_never_judged(tmp_path: Path) -> None:
    """The judge would see the concept in whatever it is shown, black images among them."""
    tiny_pipeline(0).save_pretrained(tmp_path / "base")
    prompts = tuple(Prompt(d.text, d.seed, d.guidance, n) for n, d in enumerate(DRAWINGS))
    concept = Concept("church", prompts, JudgeConfig("function", {"call": "broken_models:always"}), sampling=SHORT)
    source = ModelSpec(base=tmp_path / "base", pipe=checked_pipeline(1), safety_checker=True)
    sides, store = [], Store(tmp_path / "store")
    for each in (source, source.base_only):
        fingerprint = Fingerprint.of(each, store.fingerprints)
        campaign = Campaign(
            concept, AttackConfig("none"), fingerprint, judge_weights(concept.judge, store.fingerprints)
        )
        sides.append(
            Runner(store, ModelCache(), LocalBackend(), batch_size=2).run(campaign, lambda s=each: s, may_pass=bool)
        )
    victim, base = sides
    assert [(o.status, o.score, o.image) for o in victim.outcomes if o] == [(Status.BLOCKED, None, None)] * 2
    assert victim.counts.blocked == 2
    record = GateReport.of(victim, Gate(Fraction(0)), "n")
    assert (record.verdict, record.counts.blocked, record.control.hits) == ("PASS", 2, 2)
    assert record.prompts[0].detail == "the model's own safety checker blocked 1 of 1 images"
    assert decide(Retention(victim, base), Gate(min_rate=Fraction(1, 2))).verdict is Verdict.FAIL
    assert Retention(victim, base).lost == 1


@pytest.mark.parametrize("kind", ["pipeline", "checkpoint", "base", "object"])
def test_checker_of_every_kind_of_victim(kind: str, tmp_path: Path) -> None:
    checked_pipeline(0).save_pretrained(tmp_path / "base")
    source = ModelSpec(base=tmp_path / "base")
    if kind == "pipeline":
        checked_pipeline(1).save_pretrained(tmp_path / "model")
        tiny_pipeline(0).save_pretrained(tmp_path / "plain")  # the base's does not count, and need not be there
        source = ModelSpec(tmp_path / "model", tmp_path / "plain")
    elif kind == "checkpoint":
        save_file(unet(tiny_pipeline(1), ATTN2), tmp_path / "model")
        source = ModelSpec(tmp_path / "model", tmp_path / "base")
    elif kind == "object":
        source = ModelSpec(pipe=checked_pipeline(1))
    asked, parts = replace(source, safety_checker=True), ModelCache()
    loaded = parts.victim(asked)
    assert black(shown(DiffusionModel(loaded.pipe, SHORT, safety_checker=True).generate(DRAWINGS[:1])))
    if source.base is not None:
        # Target images are what the base draws, unchecked.
        assert not black(shown(DiffusionModel(parts.base(asked), SHORT).generate(DRAWINGS[:1])))
    assert "drawn with its own safety checker" in describe(loaded, asked.inference_edits)["notes"]
    assert describe(loaded, source.inference_edits)["notes"] == []


def test_base_with_checker_is_loaded_once(tmp_path: Path) -> None:
    checked_pipeline(0).save_pretrained(tmp_path / "base")
    save_file(unet(tiny_pipeline(1), ATTN2), tmp_path / "model")
    source, parts = ModelSpec(tmp_path / "model", tmp_path / "base", safety_checker=True), ModelCache()
    given = parts.victim(source).pipe, parts.base(source), parts.base(source.base_only)
    assert len({id(pipe.text_encoder) for pipe in given}) == 1


def test_missing_checker_is_refused(tmp_path: Path) -> None:
    tiny_pipeline(0).save_pretrained(tmp_path / "none")
    tiny_xl(0).save_pretrained(tmp_path / "xl")
    for source in (
        ModelSpec(tmp_path / "none", safety_checker=True),
        ModelSpec(tmp_path / "xl", safety_checker=True),
        ModelSpec(pipe=tiny_pipeline(0), safety_checker=True),
    ):
        with pytest.raises(ModelError, match="has no safety checker: leave out --unlearndiff-safety-checker"):
            ModelCache().victim(source)


def test_old_checker_files_load_and_gaps_are_refused(tmp_path: Path) -> None:
    """The published one nests its vision model twice."""
    checked_pipeline().save_pretrained(tmp_path / "pipe")
    file = tmp_path / "pipe" / "safety_checker" / "model.safetensors"
    tensors = {key.replace("vision_model.", "vision_model.vision_model.", 1): v for key, v in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    wanted = checked_pipeline().safety_checker.state_dict()
    found = load_pipeline(tmp_path / "pipe", safety_checker=True).safety_checker.state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    tensors = load_file(file)
    tensors.pop("visual_projection.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"safety_checker: 1 tensors are not in its files, such as visual_projection"):
        load_pipeline(tmp_path / "pipe", safety_checker=True)
    assert load_pipeline(tmp_path / "pipe").safety_checker is None


def test_checker_is_in_the_key_where_it_counts(tmp_path: Path) -> None:
    checked_pipeline(0).save_pretrained(tmp_path / "base")

    def victim(**given: Any) -> str:
        return Fingerprint.of(ModelSpec(**given), Fingerprints()).victim

    folder, pipe = {"base": tmp_path / "base"}, checked_pipeline(1)
    assert victim(**folder, safety_checker=True) == victim(**folder) + " with its own safety checker"
    both = victim(**folder, defenses=(defense("negative-prompt", prompt="church"),), safety_checker=True)
    assert both.endswith(" with negative prompt 'church' and its own safety checker")
    before = victim(pipe=pipe), victim(pipe=pipe, safety_checker=True)
    assert before[0] == victim(pipe=tiny_pipeline(1))
    pipe.safety_checker.concept_embeds_weights.add_(1.0)
    after = victim(pipe=pipe), victim(pipe=pipe, safety_checker=True)
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert Fingerprint.of(ModelSpec(**folder, safety_checker=True), Fingerprints()).targets_digest == victim(**folder)
