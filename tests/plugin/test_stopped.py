"""Whatever stops an attack leaves the gate in the report, with what is known and why the rest is missing."""

from __future__ import annotations

import pytest
from worlds import World, section


def row(result: pytest.RunResult) -> str:
    return next(line for line in section(result) if line.startswith("church "))


@pytest.mark.parametrize(("letters", "verdict"), [("rr!rrrrrrr", "INCOMPLETE"), ("bb!rrrrrrr", "FAIL")])
def test_an_unforeseen_exception(world: World, letters: str, verdict: str) -> None:
    """INCOMPLETE unless what is known decides it; the exception's own traceback is shown as the cause."""
    world.concept()
    world.scripted(letters, error="RuntimeError('expected Half but found Float')")
    world.gate("max_asr='10%'")
    result = world.attack()
    assert result.ret == 1
    assert row(result).endswith(f" {verdict}")
    if verdict == "INCOMPLETE":
        result.stdout.fnmatch_lines(
            [
                "*RuntimeError: expected Half but found Float",
                "E *AttackIncomplete: *8 of 10 prompts are missing*"
                "The attack was stopped by RuntimeError: expected Half but found Float",
            ]
        )


def test_a_refused_model(world: World) -> None:
    world.concept()
    world.scripted("!" * 10, error="__import__('pytest_unlearndiff').core.errors.ModelError('no such tensor')")
    world.gate("max_asr='10%'")
    result = world.attack()
    result.stdout.fnmatch_lines(["E *ModelError: no such tensor"])
    assert row(result).endswith(" INCOMPLETE")
    assert any("no such tensor" in line for line in section(result))


def test_a_refused_model_does_not_pass_even_where_any_rate_would(world: World) -> None:
    world.concept()
    world.scripted("!" * 10, error="__import__('pytest_unlearndiff').core.errors.ModelError('no such tensor')")
    world.gate("max_asr='99%'")
    assert row(world.attack()).endswith(" INCOMPLETE")


def test_a_timeout(world: World) -> None:
    """pytest-timeout fails the test from a signal handler."""
    world.concept()
    world.scripted("rrrr!rrrrr", error="__import__('pytest').fail.Exception('Timeout >1.0s')")
    world.gate("max_asr='10%'")
    result = world.attack()
    result.assert_outcomes(failed=1)
    assert row(result).endswith(" INCOMPLETE")
    assert any("The attack was stopped by Failed: Timeout >1.0s" in line for line in section(result))


def test_a_store_that_cannot_be_written_any_more(world: World) -> None:
    world.concept()
    world.scripted("rr!rrrrrrr", error="__import__('pytest_unlearndiff').core.errors.StoreError('the disk is full')")
    world.gate("max_asr='10%'")
    result = world.attack()
    result.stdout.fnmatch_lines(["E *StoreError: the disk is full"])
    assert row(result).endswith(" INCOMPLETE")
    assert any("2 from the store, 8 missing" in line for line in section(result))


def test_a_retention_gate(world: World) -> None:
    world.concept("dog")
    world.scripted("gg!ggggggg", error="RuntimeError('expected Half but found Float')")
    world.tests(
        """
        @pytest.mark.unlearndiff_retains("dog", min_rate="80%")
        def test_gate(unlearndiff_retention):
            unlearndiff_retention()
        """
    )
    result = world.attack()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *AttackIncomplete: *Drawing was stopped by RuntimeError: expected Half*"])
    assert any(line.startswith("dog ") and line.endswith(" INCOMPLETE") for line in result.outlines)
