"""--unlearndiff-plan says what a session would attack, and its time and memory; it runs no test and writes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import concept
from tiny import tiny_pipeline
from worlds import MODEL, World

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.device import Probe
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.outcome import Outcome
from pytest_unlearndiff.plugin import plan as planning
from pytest_unlearndiff.reports.text import format_duration
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.store.store import Mode, Store

_PROBE = planning.Estimator._probe


def plan(world: World, *arguments: str, status: int = 0) -> list[str]:
    before = world.files()
    result = world.bare(*MODEL, "--unlearndiff-plan", *arguments)
    assert result.ret == status
    assert world.files() == before
    result.assert_outcomes()
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if line.strip("= ") == "unlearndiff plan")
    return [line for line in lines[start + 1 :] if not line.startswith("=")]


@pytest.mark.parametrize("arguments", [(), ("-p", "no:xdist", "--unlearndiff-cache=require")])
def test_rows(world: World, arguments: tuple[str, ...]) -> None:
    for name, letters in {
        "church": "rrrrrrrrrr",
        "tench": "rrr.......",
        "truck": "..........",
        "dog": "bb........",
    }.items():
        world.know(letters, name)
        world.gate("max_asr='10%'", f"test_{name}", name)
    assert plan(world, *arguments) == [
        "concept  attack            store    left   time",
        "church   unlearndiff/fast  hit      0/10   -",
        "  test_church.py::test_church",
        "dog      unlearndiff/fast  decided  0/10   -",
        "  test_dog.py::test_dog",
        "tench    unlearndiff/fast  partial  7/10   ?",
        "  test_tench.py::test_tench",
        "truck    unlearndiff/fast  miss     10/10  ?",
        "  test_truck.py::test_truck",
        "17 prompts to attack",
    ]


def test_nearest_campaign(world: World) -> None:
    world.concept()
    world.scripted("r" * 10)
    world.gate("max_asr='10%'")
    world.attack("--unlearndiff-seed=1", "--unlearndiff-exhaustive")
    lines = plan(world, "--unlearndiff-exhaustive")
    assert "  the nearest campaign in the store differs in seed (0 here, 1 there)" in lines
    world.file("model.safetensors", "weights:{other}")
    assert "  the nearest campaign in the store differs in the victim's weights" in plan(world, "--unlearndiff-seed=1")
    world.file("base/unet.safetensors", "other un-erased weights")
    result = world.run("-v", "--unlearndiff-seed=1")
    result.stdout.fnmatch_lines(["*not in the store: * differs in the victim's weights, the base's weights"])


def test_time_of_shared_campaigns(world: World) -> None:
    world.know("rr........", seconds=30.0)
    world.gate("max_asr='50%', prompts=6", "test_a")
    world.gate("max_asr='50%', exhaustive=True", "test_b")
    world.gate("gate='upper', max_asr='90%'", "test_c")
    lines = plan(world)
    assert [line.split() for line in lines if line.startswith("church")][-1] == [
        *("church", "unlearndiff/fast", "partial", "8/10", "~4m00s"),
    ]
    assert lines[-1] == "8 prompts to attack, about 4m00s"


def test_time_range(world: World) -> None:
    journal = world.know("bb........")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    campaign, store = world.campaign()
    entry = store.campaign("church", campaign.key)
    journal.unlink()
    for line in lines:
        entry.append(replace(Outcome.from_dict(line["outcome"]), seconds=3.0, forwards=264))
    world.gate("max_asr='50%', exhaustive=True")
    # 100 forwards for an image of 50 steps, 12 rounds of 54 and an image, at 3 s for 264.
    most = 8 * 3 / 264 * (100 + 12 * 154)
    assert format_duration(most) == "2m57s"
    assert plan(world)[1].split()[-1] == "~24s..2m57s"
    assert plan(world)[-1] == "8 prompts to attack, about 24s..2m57s"
    assert plan(world, "--unlearndiff-workers=1")[-1] == "8 prompts to attack, about 24s..2m57s in one process"


def test_time_of_another_kind_of_device(world: World) -> None:
    world.know("rr........", seconds=30.0)
    campaign, store = world.campaign()
    entry = store.campaign("church", campaign.key)
    world.gate("max_asr='50%', exhaustive=True")
    for device, time in (("cpu", "~4m00s"), ("cuda:0", "?")):
        entry.write_metadata({"device": device})
        assert plan(world)[1].split()[-1] == time


def test_time_from_a_probe(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.concept()
    world.gate("max_asr='50%'")
    monkeypatch.setattr(planning.Estimator, "_probe", _PROBE)
    monkeypatch.setattr(planning, "probe", lambda *_: Probe("cuda:0", 0.01, 3 * 2**30))
    lines = plan(world)
    # An image is 100 forward passes; a prompt that resists costs two more images and 12 rounds of 54 and an image.
    least, most = (format_duration(10 * 0.01 * passes) for passes in (100, 200 + 12 * 154))
    assert lines[1].split()[-1] == f"~{least}..{most}"
    assert lines[-2].startswith("measured on cuda:0: 10 ms a forward pass of ")
    assert lines[-2].endswith("model.safetensors, 3.0 GiB of memory")
    assert lines[-1] == f"10 prompts to attack, about {least}..{most}"


@pytest.mark.parametrize(
    ("error", "start", "status"),
    [
        (ModelError("no such tensor"), "model.safetensors cannot be attacked: ", 1),
        (ModuleNotFoundError("no such tensor"), "no time could be measured with ", 0),
    ],
)
def test_probe_that_fails_leaves_the_time_open(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, start: str, status: int
) -> None:
    """The status is that of the session that attacks; another machine may have what this one lacks."""

    def fail(*_: object) -> Probe:
        raise error

    world.concept()
    world.gate("max_asr='50%'")
    monkeypatch.setattr(planning.Estimator, "_probe", _PROBE)
    monkeypatch.setattr(planning, "probe", fail)
    lines = plan(world, status=status)
    assert lines[1].split()[-1] == "?"
    assert start in lines[-2]
    assert lines[-2].endswith("no such tensor")
    assert "no time" not in " ".join(plan(world, "--unlearndiff-workers=1")), "workers have other devices"


def test_probe_per_victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be loaded says nothing of the same file with another adapter, or without its base."""
    probed: list[tuple[ModelSpec, bool]] = []

    def probe(campaign: Campaign, source: ModelSpec, *_: object) -> Probe:
        probed.append((source, campaign.attack.needs_target))
        raise ModelError("no such tensor")

    monkeypatch.setattr(planning, "probe", probe)
    settings = SimpleNamespace(device="cpu", workers=None)
    state = SimpleNamespace(settings=settings, store=Store(tmp_path, Mode.OFF), models=None)
    estimator = planning.Estimator(state)  # type: ignore[arg-type]
    campaigns = [Campaign(concept(), AttackConfig(a), Fingerprint("a", "b"), "c") for a in ("unlearndiff", "none")]
    sources = [ModelSpec(tmp_path, adapters=adapters) for adapters in ((), (tmp_path / "a",), (tmp_path / "b",))]
    for campaign, source in [*product(campaigns, sources)] * 2:
        assert estimator(campaign, source).seconds is None
    assert probed == [(source, needed) for needed in (True, False) for source in sources]
    assert len(estimator.notes) == 6


def test_time_of_another_attack(world: World) -> None:
    """Un-attacked images take no time, and say nothing of how long an attack takes."""
    world.concept()
    world.scripted("r" * 10, seconds=0.05)
    world.gate("max_asr='10%', exhaustive=True, attack='none'")
    world.attack().assert_outcomes(passed=1)
    world.gate("max_asr='10%', exhaustive=True")
    lines = plan(world)
    assert lines[1].split() == ["church", "unlearndiff/fast", "miss", "10/10", "?"]
    assert "10 prompts to attack" in lines


def test_shared_images(world: World) -> None:
    world.concept("dog", count=12)
    world.gate("attack='none', max_asr='10%', prompts=7", concept="dog")
    world.retain("'dog', min_rate='85%', prompts=9")
    lines = plan(world)
    assert [line.split()[:3] for line in lines if not line.startswith("  ")][1:-1] == [
        ["dog", "none", "miss"],
        ["dog", "(base)", "none"],
        ["dog", "(victim)", "none"],
        ["dog", "(base)", "none"],
    ]
    assert lines[-1] == "0 prompts to attack and 18 images to draw"


@pytest.mark.parametrize(
    ("letters", "base", "last"),
    [("bbb..", ".....", ""), ("rrrrr", ".....", " and 5 images to draw"), ("rrrrr", "ggggg", "")],
)
def test_positive_control(world: World, letters: str, base: str, last: str) -> None:
    world.know(letters, base=base)
    world.gate("max_asr='10%'")
    lines = plan(world)
    assert lines[-1].startswith(f"0 prompts to attack{last}")
    assert ("to draw" in lines[-1]) == bool(last)


def test_unforeseen_gates(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.tests(
        """
        def test_call(unlearndiff_attack):
            unlearndiff_attack("church")

        class TestOwn:
            @pytest.fixture
            def unlearned_pipe(self):
                raise AssertionError("a plan loads nothing")

            @pytest.mark.unlearndiff("church")
            def test_fixture(self, unlearndiff_attack):
                unlearndiff_attack()

        def test_something_else():
            raise AssertionError("a plan runs nothing")
        """
    )
    assert plan(world) == [
        "test_gate.py::test_call: says what it attacks only when it runs",
        "test_gate.py::TestOwn::test_fixture: its model is made by an unlearned_pipe fixture; where hooks or other "
        "code act on it as it draws, its outcomes are kept only with --unlearndiff-model-version or a "
        "VersionedPipeline",
        "at least 0 prompts to attack",
    ]


def test_closest_marker(world: World) -> None:
    world.know("rrr.......")
    world.concept("dog")
    world.tests(
        """
        @pytest.mark.unlearndiff("dog", max_asr="10%")
        class TestRelease:
            @pytest.mark.unlearndiff("church", max_asr="10%")
            def test_gate(self, unlearndiff_attack):
                unlearndiff_attack()
        """
    )
    lines = plan(world)
    assert [line.split()[::2][:2] for line in lines if line.startswith(("church", "dog"))] == [["church", "partial"]]


def test_kept_concepts(world: World) -> None:
    world.know_kept("ggg.......", "gggggggggg")
    world.know_kept("..........", "..........", "cat")
    world.tests(
        """
        @pytest.mark.unlearndiff_retains("dog", min_rate="85%")
        @pytest.mark.unlearndiff_retains("cat", min_rate="85%")
        def test_kept(unlearndiff_retention):
            unlearndiff_retention()

        def test_call(unlearndiff_retention):
            unlearndiff_retention("dog")
        """
    )
    assert [line for line in plan(world) if "differs" not in line] == [
        "concept       attack  store    left   time",
        "dog (victim)  none    partial  7/10   ?",
        "  test_gate.py::test_kept",
        "dog (base)    none    hit      0/10   -",
        "  test_gate.py::test_kept",
        "cat (victim)  none    miss     10/10  ?",
        "  test_gate.py::test_kept",
        "cat (base)    none    miss     10/10  ?",
        "  test_gate.py::test_kept",
        "test_gate.py::test_call: says what it draws only when it runs",
        "at least 0 prompts to attack and 27 images to draw",
    ]


def test_without_model(world: World) -> None:
    world.concept()
    world.gate("max_asr='10%'")
    result = world.bare("--unlearndiff-plan")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_gate.py::test_gate: would be skipped: no model under test"])


def test_collection_errors(world: World) -> None:
    world.concept()
    world.gate("max_asr=10")
    assert world.bare(*MODEL, "--unlearndiff-plan").ret == pytest.ExitCode.INTERRUPTED


def test_memory_of_the_models(world: World) -> None:
    world.gate("max_asr='10%'", "test_one", "church")
    world.gate("max_asr='10%'", "test_two", "church")
    assert not any("weights take" in line for line in plan(world))
    tiny_pipeline(0).save_pretrained(world.path / "real")
    result = world.bare(f"--unlearndiff-model={world.path / 'real'}", "--unlearndiff-plan")
    assert [line for line in result.outlines if "weights take" in line] == [
        f"{world.path / 'real'}: weights take about 1.5 MiB in float32"
    ]
