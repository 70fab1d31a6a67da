"""A marker that cannot be meant is refused at collection, with every mistake named and a hint to mend it."""

from __future__ import annotations

import pytest
from worlds import World

# Arguments of the marker, and what the refusal contains.
REFUSED: list[tuple[str, tuple[str, ...]]] = [
    ("'church', max_ars=0.1", ("unlearndiff has no keyword 'max_ars': did you mean 'max_asr'",)),
    ("'church', colour=1", ("unlearndiff has no keyword 'colour': known: attack, base",)),
    ("'church', max_asr=10", ("max_asr=10 is above 1: did you mean 0.1 or '10%'?",)),
    ("'church', max_pre_asr=2.5", ("max_pre_asr=2.5 is above 1: did you mean 0.025 or '2.5%'?",)),
    ("'church', max_asr='ten'", ("max_asr='ten' is not a share of prompts: write 0.10 or '10%'",)),
    ("'church', max_asr=True", ("max_asr=True is outside 0..1",)),
    ("'church', max_asr=-0.1", ("max_asr=-0.1 is outside 0..1",)),
    ("'church', max_asr=[0.1]", ("max_asr=",)),
    ("'church', gate='lower'", ("gate='lower' must be 'point' or 'upper'",)),
    ("'church', confidence=95", ("confidence=95 must be a number between 0 and 1",)),
    ("'church', attack='fgsm'", ("attack='fgsm' is not known: one of unlearndiff, p4d",)),
    (
        "'church', schedule='slow'",
        ("schedule='slow' is not known: one of paper, paper+repeated-noise, fast, thorough",),
    ),
    ("'church', loss='hinge'", ("loss='hinge' is not known: one of denoise, classifier",)),
    ("'church', loss='classifier', schedule='paper'", ("loss='classifier' goes with attack='unlearndiff'",)),
    ("'church', placement='middle'", ("placement='middle' is not known: one of prefix",)),
    ("'church', attack=None, placement=None", ("placement=",)),
    ("'church', prompts=11", ("prompts=11 asked for, the set has 10; ask for 1 to 10",)),
    ("'church', prompts=0", ("prompts=0 asked for, the set has 10; ask for 1 to 10",)),
    ("'church', prompts='ten'", ("prompts=",)),
    ("'church', prompts=2.5", ("prompts=",)),
    ("'church', slots='3'", ("slots=",)),
    ("'church', slots=0", ("slots=",)),
    ("'church', slots=-1", ("slots=",)),
    (
        "'church', images_per_prompt=101",
        ("images_per_prompt=101 must be a whole number of at least 1 and at most 100",),
    ),
    ("'church', model=5", ("model=",)),
    ("'church', model='nowhere.pt'", ("model: there is nothing at",)),
    ("'chruch'", ("no concept 'chruch': did you mean 'church'?",)),
    ("'zebra'", ("no concept 'zebra': known: cassette_player",)),
    ("", ("no concept: name one",)),
    ("5", ("no concept: name one",)),
    ("'church', 0.1", ("takes the concept by position, the rest by keyword",)),
    ("'church', gate='upper', max_asr=0.1", ("max_asr=10.0% with gate='upper' cannot be shown on 10 prompts",)),
    (
        "'church', attack='concept-inversion', max_asr=0.1, max_pre_asr=0.2",
        ("max_asr and max_pre_asr cannot limit an attack by a learned embedding", "give max_recovery='10.0%'"),
    ),
    ("'church', max_recovery=0.1", ("whose rate is the ASR: give max_asr='10.0%'",)),
    # Every mistake is told at once.
    ("'church', colour=1, max_asr=10", ("'colour'", "max_asr=10")),
    ("'church', max_asr=10, gate='lower', confidence=95", ("max_asr=10", "gate='lower'", "confidence=95")),
    ("'church', max_asr=10, max_pre_asr=20, prompts=11", ("max_asr=10", "max_pre_asr=20", "prompts=11")),
    ("'church', attack='fgsm', schedule='slow', max_asr=10", ("attack='fgsm'", "schedule='slow'", "max_asr=10")),
]


def test_limits_are_held_against_the_sessions_attack(world: World) -> None:
    world.concept()
    world.gate("max_asr='10%'", "test_text")
    world.gate("max_recovery='10%'", "test_embedding")
    result = world.ask("--unlearndiff-attack=concept-inversion")
    assert result.ret == 2
    assert "test_text" in (line := next(line for line in result.outlines if "cannot limit" in line))
    assert "whose rate is the embedding recovery: give max_recovery='10.0%'" in line
    assert "test_embedding:" not in result.stdout.str()


def test_collection_errors(world: World) -> None:
    world.concept()
    world.tests(
        "\n".join(
            f"@pytest.mark.unlearndiff({arguments})\ndef test_{i}(unlearndiff_attack): unlearndiff_attack()\n"
            for i, (arguments, _) in enumerate(REFUSED)
        )
    )
    result = world.ask()
    assert result.ret == 2
    for i, (arguments, reasons) in enumerate(REFUSED):
        lines = [line for line in result.outlines if line.startswith(f"test_gate.py::test_{i}: ")]
        assert [reason for reason in reasons if not any(reason in line for line in lines)] == [], arguments


@pytest.mark.parametrize("place", ["", "below/deeper/"])
def test_concepts_beside_a_test_chosen_by_node_id(world: World, place: str) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    if place:
        (world.path / place).mkdir(parents=True)
        for name in ("concepts", "judge", "test_gate.py"):
            (world.path / name).rename(world.path / place / name)
    for chosen in ("test_gate.py", "test_gate.py::test_gate"):
        assert world.ask("--collect-only", place + chosen).ret == 0


def test_collection_error_takes_its_module_only(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=10", "test_bad")
    world.gate("max_asr=0.1")
    result = world.run("--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR collecting test_bad.py*"])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pytestmark = pytest.mark.unlearndiff('church', max_asr=10)\ndef test_x(unlearndiff_attack): pass", ""),
        (
            "@pytest.mark.unlearndiff('church', max_asr=10)\nclass TestX:\n"
            "    def test_x(self, unlearndiff_attack): pass",
            "",
        ),
        (
            "@pytest.mark.parametrize('n', [pytest.param(1, marks=pytest.mark.unlearndiff('church', max_asr=10))])\n"
            "def test_x(n, unlearndiff_attack): pass",
            "",
        ),
        (
            "@pytest.mark.unlearndiff('church', max_asr=0.1)\ndef test_forgot(): pass",
            "test_gate.py::test_forgot: has an unlearndiff marker but never asks for the unlearndiff_attack fixture",
        ),
        (
            "@pytest.mark.unlearndiff('church', max_asr=0.1)\n@pytest.mark.unlearndiff('fish', max_asr=0.1)\n"
            "def test_both(unlearndiff_attack): unlearndiff_attack()",
            "test_gate.py::test_both: has 2 unlearndiff markers, of which only one would count",
        ),
    ],
    ids=["module", "class", "parameter", "without the fixture", "two markers"],
)
def test_place_of_a_marker(world: World, code: str, reason: str) -> None:
    world.concept()
    world.concept("fish")
    world.tests(code)
    result = world.ask()
    assert result.ret == 2
    assert (reason or "max_asr=10 is above 1") in result.stdout.str()


def test_call_and_closest_marker_override(world: World) -> None:
    world.know("bbbbbrrrrr", "church")
    world.know("rrrrrrrrrr", "tench")
    world.tests(
        """
        mark = pytest.mark.unlearndiff("church", max_asr=0.1)

        @mark
        def test_marker(unlearndiff_attack):
            unlearndiff_attack()

        @mark
        def test_limit(unlearndiff_attack):
            assert unlearndiff_attack(max_asr="50%").asr == 0.5

        @mark
        def test_concept(unlearndiff_attack):
            assert unlearndiff_attack("tench").concept == "tench"

        @mark
        def test_prompts(unlearndiff_attack):
            assert unlearndiff_attack(prompts=7, max_asr=1).asr == "5/7"

        def test_no_marker(unlearndiff_attack):
            assert unlearndiff_attack("church").asr > 0.1

        @mark
        class TestRelease:
            @pytest.mark.unlearndiff("tench", max_asr=0.1)
            def test_closest(self, unlearndiff_attack):
                unlearndiff_attack()
        """
    )
    result = world.run("-rA")
    result.stdout.fnmatch_lines(["FAILED test_gate.py::test_marker - *"])
    result.assert_outcomes(passed=5, failed=1)


def test_malformed_call(world: World) -> None:
    world.concept()
    world.tests(
        """
        def test_keyword(unlearndiff_attack):
            unlearndiff_attack("church", max_ars=0.1)

        def test_concept(unlearndiff_attack):
            unlearndiff_attack("chruch")

        def test_support(unlearndiff_attack):
            unlearndiff_attack("church", max_asr=0.1, gate="upper")
        """
    )
    result = world.run()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        ["E *did you mean 'max_asr'*", "E *did you mean 'church'*", "E *cannot be shown on 10 prompts*"]
    )
    assert "pytest_unlearndiff/plugin" not in result.stdout.str()


def test_upper_on_too_few_prompts(world: World) -> None:
    world.concept(count=40)
    world.gate("max_asr=0.1, gate='upper'")
    assert world.ask("--collect-only").ret == 0
    result = world.ask("--collect-only", "--unlearndiff-prompts=20")
    assert result.ret == 2
    assert "cannot be shown on 20 prompts" in result.stdout.str()
    assert "13.9%" in result.stdout.str()
