"""Workers change nothing: same verdicts, same failure text, one summary, printed by the controller."""

from __future__ import annotations

import pytest
from worlds import World, section

GATES = {
    "church": ("brrrrrrrrr", "max_asr=0.1"),
    "tench": ("bbbrrrrrrr", "max_asr=0.1"),
    "truck": ("rrr.......", "max_asr=0.1"),
    "style": ("b" + "r" * 49, "max_asr=0.1, gate='upper'"),
    "nudity": ("gggggggggg", "max_pre_asr=0.05"),
}


@pytest.fixture
def gates(world: World) -> World:
    for concept, (letters, keywords) in GATES.items():
        world.know(letters, concept)
        world.gate(keywords, f"test_{concept}", concept)
    return world


def test_workers_change_nothing(gates: World) -> None:
    alone, shared = gates.run(), gates.run("-n2")
    assert shared.ret == alone.ret == 1
    assert shared.parseoutcomes() == alone.parseoutcomes()
    assert sorted(section(shared)) == sorted(section(alone))
    errors = [sorted(line for line in result.outlines if line.startswith("E ")) for result in (alone, shared)]
    assert errors[0] == errors[1]


def test_one_section_by_the_controller(gates: World) -> None:
    result = gates.run("-n2")
    heads = [line for line in result.outlines if line.strip("= ") == "unlearndiff"]
    assert len(heads) == 1
    rows = [line.split()[0] for line in section(result) if line.split()[0] in GATES]
    assert sorted(rows) == sorted(GATES)
    assert result.stderr.str() == ""


@pytest.mark.parametrize("arguments", [("-n0",), ("-n1",), ("-n2", "--dist=loadfile"), ("-n2", "--dist=each")])
def test_other_ways_to_share(gates: World, arguments: tuple[str, ...]) -> None:
    result = gates.run(*arguments)
    assert result.ret == 1
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    verdicts = {line.split()[0]: line.split()[-1] for line in section(result) if line.split()[0] in GATES}
    assert verdicts == {
        "church": "PASS", "tench": "FAIL", "truck": "INCOMPLETE", "style": "PASS", "nudity": "FAIL",
    }  # fmt: skip


def test_two_workers_that_need_one_campaign_attack_each_prompt_once(world: World) -> None:
    world.concept()
    world.scripted("rbrrrrrrrr", seconds=0.2)
    world.gate("max_asr='10%', exhaustive=True", "test_one")
    world.gate("max_asr='20%', exhaustive=True", "test_two")
    result = world.attack("-n2", "--dist=loadfile")
    result.assert_outcomes(passed=2)
    assert len(world.kept()) == 10
    said = sorted(" ".join(line.split(", ")[-1].split()[:2]) for line in section(result) if "::test_" in line)
    assert said == ["10 attacked", "all 10"]
