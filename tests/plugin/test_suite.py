"""``pytest --pyargs pytest_unlearndiff.suite`` gates a model without a test file."""

from __future__ import annotations

import pytest
from builders import UPSTREAM, needs_upstream
from worlds import World, section, text, verdict


@pytest.fixture
def known(world: World) -> World:
    world.know("brrrrrrrrr", "church")
    world.know("bbrrrrrrrr", "tench")
    return world


def suite(world: World, *options: str) -> pytest.RunResult:
    return world.run("--pyargs", "pytest_unlearndiff.suite", *(f"--unlearndiff-{option}" for option in options))


def test_gate_per_concept(known: World) -> None:
    result = suite(known, "concept=church,tench", "max-asr=10%")
    result.assert_outcomes(passed=1, failed=1)
    assert (verdict(result), verdict(result, "tench")) == ("PASS", "FAIL")
    (line,) = [line for line in section(result) if line.startswith("  replay: ")]
    assert line.startswith("  replay: pytest --pyargs pytest_unlearndiff.suite --unlearndiff-concept=tench ")
    assert line.count("--unlearndiff-concept=") == 1


def test_without_limit(known: World) -> None:
    result = suite(known, "concept=tench")
    result.assert_outcomes(passed=1)
    assert "2/10 = 20.0%" in text(result)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ((), 2, "no concept: name what should be gone, as in --unlearndiff-concept=church, or a suite"),
        (("suite=papr",), 4, "ERROR: --unlearndiff-suite: *one of paper"),
        (("suite=paper", "concept=church"), 2, "the suite paper has no task 'church': did you mean 'church:paper'"),
        (
            ("suite=paper", "concept=parachute:paper"),
            2,
            "'parachute' needs parachute.csv, *get it (prompts/parachute.csv of OPTML-*",
        ),
        (("concept=churh",), 2, "no concept 'churh': did you mean 'church'"),
        (("concept=church", "max-asr=10"), 4, "ERROR: --unlearndiff-max-asr: *did you mean 0.1 or '10%'?"),
    ],
)
def test_wrong_options(known: World, options: tuple[str, ...], status: int, message: str) -> None:
    result = suite(known, *options)
    assert result.ret == status
    (result.stderr if status == 4 else result.stdout).fnmatch_lines([f"*{message}*"])


@needs_upstream
def test_published_figures_stand_beside_measured_ones(world: World) -> None:
    """A whole gate of the suite, on upstream's prompts, with outcomes of a script: 108 of 142, as ESD's on the page."""
    world.file("sets/nudity.csv", (UPSTREAM / "nudity.csv").read_text(encoding="utf-8"))
    world.file("sets/best.onnx", "{}")
    world.scripted("g" * 29 + "b" * 79 + "r" * 34)
    world.pytester.syspathinsert()
    options = ("suite=paper", "concept=nudity:paper", "prompt-sets=sets")
    result = world.attack(
        "-pconftest", "--pyargs", "pytest_unlearndiff.suite", *(f"--unlearndiff-{option}" for option in options)
    )
    result.assert_outcomes(passed=1)
    (line,) = [line for line in result.outlines if "published ESD:" in line]
    assert "ASR 108/142 = 76.1%" in line
    assert "measured less published -10." in line


@needs_upstream
def test_plan_of_the_paper(world: World) -> None:
    """On upstream's prompt sets and stand-ins for its judges, with no model loaded: 1,875 rows, one of them twice."""
    rows = {"nudity": 142, "violence": 756, "illegal": 727, **dict.fromkeys(("vangogh", "church"), 50)}
    rows |= dict.fromkeys(("garbage_truck", "parachute", "tench"), 50)
    for name in rows:
        world.file(f"sets/{name}.csv", (UPSTREAM / f"{name}.csv").read_text(encoding="utf-8"))
    for judge in ("q16.npz", "best.onnx", "style-classifier/config.json"):
        world.file(f"sets/{judge}", "{}")
    # The world's own concepts come first, and have no paper in them.
    for path in world.path.glob("concepts/*"):
        path.unlink()
    result = suite(world, "suite=paper", "prompt-sets=sets", "plan")
    lines = result.outlines
    for name, count in rows.items():
        (line,) = [line for line in lines if line.startswith(name) and "unlearndiff/paper" in line]
        assert f"{count - (name == 'illegal')}/{count}" in line
        assert any(f"prompts/{name}.csv of OPTML-Group/Diffusion-MU-Attack" in line for line in lines)
    assert any("its 727 prompts are 726 different ones" in line for line in lines)
