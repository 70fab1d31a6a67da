"""Where a GPU has no room for a victim and its base, they take turns on it.

There is no GPU here: devices are a record of which component would be where, and numbers are those of the CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from resaved import KV, unet
from safetensors.torch import save_file
from tiny import tiny_pipeline

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt, Sampling
from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.models import loading, pipeline_folders, residence
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.lookup import components_of
from pytest_unlearndiff.models.target_images import Targets
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.store.store import Store

GPU = "cuda:0"


class Places:
    """Where each component would be."""

    def __init__(self) -> None:
        self.of: dict[int, str] = {}
        self.most = 0

    def put(self, pipe: Any, device: str) -> Any:
        self.of |= dict.fromkeys((id(getattr(pipe, name)) for name in components_of(pipe)), device)
        self.most = max(self.most, len(self.on_gpu()))
        return pipe

    def off(self, module: Any) -> None:
        self.of[id(module)] = "cpu"

    def on_gpu(self) -> set[int]:
        return {module for module, place in self.of.items() if place == GPU}

    def has(self, *pipes: Any) -> bool:
        """Whether these pipelines, and nothing else, are on the GPU."""
        return self.on_gpu() == {id(getattr(pipe, name)) for pipe in pipes for name in components_of(pipe)}

    def sent_away(self, *pipes: Any) -> set[int]:
        """Components that are on the CPU; a copy is where its original was, until it is moved."""
        ids = {id(getattr(pipe, name)) for pipe in pipes for name in components_of(pipe)}
        return {module for module in ids if self.of.get(module) == "cpu"}


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    places = Places()
    monkeypatch.setattr(pipeline_folders, "to_device", places.put)
    monkeypatch.setattr(residence, "to_device", places.put)
    monkeypatch.setattr(residence, "take_off", places.off)
    monkeypatch.setattr(residence, "memory_of", lambda device: 1_000)
    return places


@pytest.fixture(params=["checkpoint", "pipeline"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> ModelSpec:
    base, erased = tiny_pipeline(0), tiny_pipeline(0)
    erased.unet = tiny_pipeline(1).unet
    base.save_pretrained(tmp_path / "base")
    erased.save_pretrained(tmp_path / "pipeline")
    save_file(unet(erased, KV), tmp_path / "checkpoint")
    return ModelSpec(tmp_path / request.param, tmp_path / "base", device=GPU)


def test_base_takes_the_victims_place_only_while_it_draws(source: ModelSpec, places: Places) -> None:
    cache = ModelCache()
    victim = cache.victim(source).pipe
    base = cache.base(source)
    assert places.has(victim)
    assert base.unet is not victim.unet
    assert base.vae is victim.vae
    drawing: list[bool] = []
    models = [DiffusionModel(pipe, Sampling(1, "own")) for pipe in (base, victim)]
    generate = models[0].generate
    models[0].generate = lambda requests: drawing.append(places.has(base)) or generate(requests)  # type: ignore[method-assign]
    targets = Targets(models[0], at_work=lambda: cache.base_at_work(source, victim))
    latents = targets.latents([Prompt("a church", 1, 5.0, 0)], models[1])
    assert latents.isfinite().all()
    assert drawing == [True]
    assert places.has(victim)
    assert places.most == len(components_of(victim))


def test_base_is_there_again_where_it_is_needed(source: ModelSpec, places: Places) -> None:
    cache = ModelCache()
    victim = cache.victim(source).pipe
    assert places.has(cache.victim(source.base_only).pipe)
    assert cache.victim(source).pipe is victim
    assert places.has(victim)
    assert cache.victim(source, with_base=True).pipe is victim
    assert places.has(victim, cache.base(source))


def test_nothing_is_on_the_gpu_while_a_victim_is_made(
    source: ModelSpec, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a base that is there already, weights would be compared across devices."""
    cache, load_victim, there = ModelCache(), loading.load_victim, list[set[int]]()
    monkeypatch.setattr(loading, "load_victim", lambda *a, **k: there.append(places.on_gpu()) or load_victim(*a, **k))
    assert places.has(cache.victim(source.base_only).pipe)
    assert places.has(cache.victim(source).pipe)
    assert there == [set()]


@pytest.mark.parametrize(("attack", "beside"), [("unlearndiff", False), ("p4d", True)])
def test_base_stays_for_attacks_that_need_it(
    attack: str, beside: bool, source: ModelSpec, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they took turns before; the judge sees the concept in all but the first image, the plain one."""
    (tmp_path / "eye_of_turns.py").write_text(
        "seen = []\n\n\ndef look(images):\n    seen.extend(images)\n    return [len(seen) != 1 for _ in images]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "eye_of_turns", raising=False)
    judge = JudgeConfig("function", {"call": "eye_of_turns:look"})
    concept = Concept("church", (Prompt("a church", 1, 5.0, 0),), judge, sampling=Sampling(2))
    cache, store = ModelCache(), Store(tmp_path / "store")
    victim = cache.victim(source).pipe
    campaign = Campaign(concept, AttackConfig(attack), Fingerprint.of(source, store.fingerprints), "judge")
    result = Runner(store, cache, LocalBackend(), batch_size=1).run(campaign, lambda: source)
    assert [outcome.status for outcome in result.outcomes if outcome] == [Status.HIT_UNDER_ATTACK]
    assert places.has(victim, *([cache.base(source)] if beside else []))


def test_both_stay_where_there_is_room(source: ModelSpec, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residence, "memory_of", lambda device: 10**9)
    cache = ModelCache()
    victim = cache.victim(source).pipe
    with cache.base_at_work(source, victim):
        assert not places.sent_away(victim, cache.base(source))
    assert not places.sent_away(victim, cache.base(source))
    assert id(cache.base(source).unet) in places.on_gpu()


def test_a_cpu_is_never_short() -> None:
    assert residence.memory_of("cpu") is None
