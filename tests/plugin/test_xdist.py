"""Sessions with two workers of pytest-xdist: same verdicts, reports and errors as in one process."""

from __future__ import annotations

import json

import pytest
from worlds import MODEL, World, section, text

from pytest_unlearndiff.core.outcome import Status

from .test_import_budget import HEAVY, SPY, loaded
from .test_interrupted import interrupt

GATES = {
    "church": ("brrrrrrrrr", "max_asr=0.1"),
    "tench": ("bbbrrrrrrr", "max_asr=0.1"),
    "truck": ("rrr.......", "max_asr=0.1"),
    "style": ("b" + "r" * 49, "max_asr=0.1, gate='upper'"),
    "nudity": ("gggggggggg", "max_pre_asr=0.05"),
}


@pytest.fixture
def gates(world: World) -> World:
    """Gates of every verdict."""
    for concept, (letters, keywords) in GATES.items():
        world.know(letters, concept)
        world.gate(keywords, f"test_{concept}", concept)
    return world


def test_same_results(gates: World) -> None:
    """Also of a gate file, a retention gate, and gates that were not measured."""
    file = "gates:\n  church, strict: {concept: church, max_asr: 0%}\nretains:\n  church: {min_rate: 85%}\n"
    gates.file("release.unlearndiff.yaml", file)
    gates.tests(
        """
        @pytest.mark.xfail(reason="known to come back")
        def test_expected(unlearndiff_attack): unlearndiff_attack("tench", max_asr="10%")

        @pytest.mark.skip(reason="not today")
        def test_skipped(unlearndiff_attack): unlearndiff_attack("church")

        def test_unknown(unlearndiff_attack): unlearndiff_attack("chuch")
        """,
        "test_others",
    )
    alone = gates.run("--unlearndiff-report=json:alone.json")
    shared = gates.run("--unlearndiff-report=json:shared.json", "-n2")
    assert shared.ret == alone.ret == 1
    assert shared.stderr.str() == ""
    assert len([line for line in shared.outlines if line.strip("= ") == "unlearndiff"]) == 1
    assert shared.parseoutcomes() == alone.parseoutcomes()
    assert sorted(line.replace("shared.json", "alone.json") for line in section(shared)) == sorted(section(alone))
    errors = [sorted(line for line in result.outlines if line.startswith("E ")) for result in (alone, shared)]
    assert errors[0] == errors[1]
    reports = [json.loads(gates.read(name)) for name in ("alone.json", "shared.json")]
    for report in reports:
        for part in (report, *report["gates"]):
            part.pop("run")
    assert reports[0] == reports[1]


@pytest.mark.parametrize("arguments", [("-n0",), ("-n1",), ("-n2", "--dist=loadfile"), ("-n2", "--dist=each")])
def test_distribution_modes(gates: World, arguments: tuple[str, ...]) -> None:
    result = gates.run(*arguments)
    assert result.ret == 1
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    verdicts = {line.split()[0]: line.split()[-1] for line in section(result) if line.split()[0] in GATES}
    assert verdicts == dict(zip(GATES, ("PASS", "FAIL", "INCOMPLETE", "PASS", "FAIL"), strict=True))


def test_shared_campaign_is_attacked_once(world: World) -> None:
    world.concept()
    world.scripted("rbrrrrrrrr", seconds=0.2)
    world.gate("max_asr='10%', exhaustive=True", "test_one")
    world.gate("max_asr='20%', exhaustive=True", "test_two")
    result = world.attack("-n2", "--dist=loadfile")
    result.assert_outcomes(passed=2)
    assert len(world.kept()) == 10
    origins = sorted(" ".join(line.split(", ")[-1].split()[:2]) for line in section(result) if "::test_" in line)
    assert origins == ["10 attacked", "all 10"]


def test_warm_session_loads_no_torch(world: World) -> None:
    world.file("conftest.py", SPY)
    world.know("bbrrrrrrrr")
    world.gate("max_asr=0.5")
    world.bare(*MODEL, "-n2").assert_outcomes(passed=1)
    modules = loaded(world)
    assert len(modules) == 3
    for names in modules:
        assert not names & HEAVY


def test_bad_marker_and_bad_gate_file(world: World) -> None:
    world.concept()
    world.gate("max_asr=10")
    world.file("release.unlearndiff.yaml", "gates: {church: {max_asr: 10}}\n")
    result = world.run("-n2")
    assert result.ret == 1
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines_random(["*test_gate.py::test_gate: *max_asr=10*", "*:1: church: max_asr=10*"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_bad_option_starts_no_worker(world: World) -> None:
    result = world.run("-n2", "--unlearndiff-model=nowhere.pt")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "created" not in result.stdout.str()


def test_require_counts_skipped_gates(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    result = world.bare("--unlearndiff-require", "-n2")
    result.assert_outcomes(skipped=1)
    assert result.ret == 1
    assert "test_gate.py::test_gate" in text(result)


HOOKS = """
def pytest_unlearndiff_concepts(config):
    from pathlib import Path

    return [Path("elsewhere").resolve()]

def pytest_unlearndiff_register(config):
    from pytest_unlearndiff import AttackInfo

    return [AttackInfo("{attack}", implementation="nowhere:Echo", version="1")]

def pytest_unlearndiff_outcome(config, nodeid, outcome):
    with open("told", "a") as file:
        print(nodeid, outcome.status, outcome.prompt, file=file)
"""


def test_hooks(world: World) -> None:
    world.concept()
    world.scripted("rbrbrrrrrr")
    world.conftest(HOOKS.format(attack="echo"))
    (world.path / "concepts").rename(world.path / "elsewhere")
    world.gate("max_asr='50%', exhaustive=True, attack='echo'")
    world.attack("-n2").assert_outcomes(passed=1)
    lines = [line.split() for line in world.read("told").splitlines()]
    assert len({prompt for _, _, prompt in lines}) == len(lines) == 10
    statuses = [status for _, status, _ in lines]
    assert (statuses.count(Status.HIT_UNDER_ATTACK.value), statuses.count(Status.RESISTED.value)) == (2, 8)


@pytest.mark.parametrize("folder", [".", "below"], ids=["at the start", "while collecting"])
def test_name_of_a_row_is_taken(world: World, folder: str) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr='10%'")
    world.file(f"{folder}/conftest.py", HOOKS.format(attack="random"))
    (world.path / "test_gate.py").rename(world.path / folder / "test_gate.py")
    (world.path / "concepts").rename(world.path / "elsewhere")
    result = world.run("-n2")
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR)
    output = result.stdout.str() + result.stderr.str()
    assert "'random'" in output
    assert "INTERNALERROR" not in output


def test_interrupted_before_anything_was_measured(world: World) -> None:
    """What a worker was doing dies with it: the gate is named, and its prompts are in the store."""
    interrupt(world, "bbbbrrrrrr")
    world.file("report.md", "1 of 1 gate passed")
    result = world.attack("-n2", "--unlearndiff-report=md:report.md")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "1 of 1 gate passed" not in world.read("report.md")
    assert "interrupted" in world.read("report.md")
    shown = world.command("report")
    assert shown.ret == 1
    assert "No gate was measured, 1 not measured" in shown.outlines
    assert shown.errlines[0].startswith(
        "interrupted in test_gate.py::test_gate: every prompt that finished is kept in "
    )
    for concept in ((), ("--concept=church",)):
        exported = world.command("export", "known.csv", *concept)
        assert exported.ret == 1
        (line,) = exported.errlines
        assert line.startswith("the store .unlearndiff holds 4 adversarial prompts that no gate of its last session ")


def test_interrupted_with_a_store_that_is_not_written(world: World) -> None:
    interrupt(world)
    result = world.attack("--unlearndiff-cache=ro", "-n2")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "interrupted in test_gate.py::test_gate: nothing new is kept" in section(result)
