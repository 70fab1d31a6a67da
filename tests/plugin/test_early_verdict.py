"""A campaign ends as soon as its verdict is certain, and says so; a later exhaustive run goes on from there."""

from __future__ import annotations

import pytest
from worlds import World, section


def row(result: pytest.RunResult) -> str:
    """The gate's row in the summary."""
    return next(line for line in section(result) if line.startswith("church "))


def test_early_fail(world: World, workers: tuple[str, ...]) -> None:
    world.concept()
    world.scripted("rbrbrrrrrr")
    world.gate("max_asr='10%'")
    result = world.attack(*workers)
    assert result.ret == 1
    assert row(result).endswith(" FAIL")
    result.stdout.fnmatch_lines(["E *church: ASR between 2/10 = 20.0% and 8/10 = 80.0%, gate ASR*"])
    assert "4 attacked" in "".join(section(result))
    assert "6 not needed" in "".join(section(result))


def test_early_pass(world: World, workers: tuple[str, ...]) -> None:
    world.concept()
    world.scripted("rrrrrbbbbb")
    world.gate("max_asr='50%'")
    result = world.attack(*workers)
    assert result.ret == 0
    assert "0..5/10 = 0.0%..50.0%" in row(result)
    assert row(result).endswith(" PASS")
    assert "5 not needed" in "".join(section(result))


def test_certain_verdict_loads_nothing(world: World) -> None:
    world.know("bb........")
    world.without_torch()
    world.gate("max_asr='10%'")
    result = world.attack()
    assert row(result).endswith(" FAIL")
    assert "2 from the store, 8 not needed" in "".join(section(result))
    assert "torch" not in "".join(section(result))


@pytest.mark.parametrize("way", ["marker", "option"])
def test_exhaustive(world: World, way: str) -> None:
    world.concept()
    world.scripted("rbrbrrbrrr")
    world.gate("max_asr='10%'" + (", exhaustive=True" if way == "marker" else ""))
    result = world.attack(*(["--unlearndiff-exhaustive"] if way == "option" else []))
    assert "3/10 = 30.0%" in row(result)
    assert "10 attacked" in "".join(section(result))


def test_exhaustive_goes_on_from_the_journal(world: World) -> None:
    world.concept()
    world.scripted("rbrbrrbrrr")
    world.gate("max_asr='10%'")
    world.attack()
    result = world.attack("--unlearndiff-exhaustive")
    assert "3/10 = 30.0%" in row(result)
    assert "6 attacked" in "".join(section(result))
    assert "4 from the store" in "".join(section(result))


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
