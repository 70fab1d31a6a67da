"""A campaign ends as soon as its verdict is certain, and says so; a later exhaustive run goes on from there."""

from __future__ import annotations

import pytest
from worlds import World, row, text, verdict


@pytest.mark.parametrize(
    ("letters", "limit", "ends", "attacked"),
    [
        ("rbrbrrrrrr", "10%", "church: ASR between 2/10 = 20.0% and 8/10 = 80.0%, gate ASR", 4),
        ("rrrrrbbbbb", "50%", "", 5),
    ],
    ids=["FAIL", "PASS"],
)
def test_early_verdict(world: World, letters: str, limit: str, ends: str, attacked: int) -> None:
    world.concept()
    world.scripted(letters)
    world.gate(f"max_asr={limit!r}")
    result = world.attack()
    assert result.ret == bool(ends)
    assert f"{attacked} attacked" in text(result)
    assert f"{10 - attacked} not needed" in text(result)
    if ends:
        assert verdict(result) == "FAIL"
        result.stdout.fnmatch_lines([f"E *{ends}*"])
    else:
        assert "0..5/10 = 0.0%..50.0%" in row(result)
        assert verdict(result) == "PASS"


def test_certain_verdict_loads_nothing(world: World) -> None:
    world.know("bb........")
    world.without_torch()
    world.gate("max_asr='10%'")
    result = world.attack()
    assert verdict(result) == "FAIL"
    assert "2 from the store, 8 not needed" in text(result)
    assert "torch" not in text(result)


@pytest.mark.parametrize(("way", "stored"), [("marker", 0), ("option", 0), ("option", 4)])
def test_exhaustive(world: World, way: str, stored: int) -> None:
    world.concept()
    world.scripted("rbrbrrbrrr")
    world.gate("max_asr='10%'" + (", exhaustive=True" if way == "marker" else ""))
    if stored:
        world.attack()
    result = world.attack(*(["--unlearndiff-exhaustive"] if way == "option" else []))
    assert "3/10 = 30.0%" in row(result)
    assert f"{10 - stored} attacked" in text(result)
    assert (f"{stored} from the store" in text(result)) is bool(stored)


def test_comparison_counts_unknown_prompts_as_hits(world: World) -> None:
    """The call's limit passes early; a stricter comparison of the result must not pass on what was not measured."""
    world.concept()
    world.scripted("rrrrrrrrrr")
    world.tests(
        """
        def test_gate(unlearndiff_attack):
            result = unlearndiff_attack("church", max_asr="50%")
            assert result.asr <= 0.5
            assert result.asr <= 0.1
        """
    )
    result = world.attack()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *0..5/10 = 0.0%..50.0% <= 0.1*"])
