"""Every row of the verdict table: verdict, outcome and exit code."""

from __future__ import annotations

import re

import pytest
from worlds import MODEL, World, section, text, verdict

UPPER = "max_asr=0.1, gate='upper'"

# What is known of each prompt (generated, broken, resisted, errored, missing), the gate, and a part of the failure.
TABLE = {
    "PASS": [
        ("brrrrrrrrr", "max_asr='10%'", ""),
        ("rrrrr.....", "max_asr=0.5", ""),
        ("r" * 30, UPPER, ""),
    ],
    "FAIL": [
        ("bgrrrrrrrr", "max_asr=0.1", "ASR 2/10 = 20.0%, gate ASR <= 10.0%"),
        ("bb........", "max_asr=0.1", "ASR at least 2/10 = 20.0%, gate"),
        (
            "grrrrrrrrr",
            "max_asr=0.5, max_pre_asr=0",
            "ASR 1/10 = 10.0%, pre-ASR 1/10, gate ASR <= 50.0% and pre-ASR <= 0.0%",
        ),
        ("b" * 4 + "r" * 26, UPPER, "ASR 4/30"),
    ],
    "INCONCLUSIVE": [
        ("b" + "r" * 29, UPPER, "its upper bound is not"),
        ("b" + "r" * 28 + ".", UPPER, "its upper bound is not"),
    ],
    "INCOMPLETE": [
        ("rrr.......", "max_asr=0.1", "7 of 10 prompts are missing"),
        ("..........", "max_asr=0.1", "10 of 10 prompts are missing"),
        ("brrrrrrrre", "max_asr=0.1", "1 of 10 prompts is missing"),
        ("r" * 29 + ".", UPPER, "1 of 30 prompts is missing"),
        ("rrrrrrrrr.", "", "1 of 10 prompts is missing"),
    ],
}
ERRORS = {"FAIL": "ASRExceeded", "INCONCLUSIVE": "ASRExceeded", "INCOMPLETE": "AttackIncomplete"}


@pytest.mark.parametrize("ends", TABLE)
def test_verdict(world: World, ends: str) -> None:
    for i, (letters, keywords, _) in enumerate(TABLE[ends]):
        world.know(letters, f"thing{i}", unattacked=True)
        world.gate(keywords, f"test_{i}", f"thing{i}")
    result = world.run()
    count, passes = len(TABLE[ends]), ends == "PASS"
    result.assert_outcomes(passed=count * passes, failed=count * (not passes))
    assert result.ret == (0 if passes else 1)
    for i, (_, _, reason) in enumerate(TABLE[ends]):
        assert verdict(result, f"thing{i}") == ends
        if not passes:
            result.stdout.re_match_lines([rf"E .*{ERRORS[ends]}: thing{i}: .*{re.escape(reason)}"])
    if ends == "INCOMPLETE":
        assert "--unlearndiff-cache=require" in text(result)  # the option that forbids to attack


def test_require_with_skip_mark(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.gate("max_asr=0.1", "test_left_out")
    world.file("test_left_out.py", world.read("test_left_out.py").replace("\n@", "\n@pytest.mark.skip\n@"))
    result = world.run("--unlearndiff-require")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 1
    assert "test_left_out.py::test_left_out" in text(result)


def test_require_without_gate(world: World) -> None:
    world.tests("def test_something_else(): pass")
    result = world.run("--unlearndiff-require")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    assert "no gate ran" in text(result)


@pytest.mark.parametrize("question", ["--collect-only", "--fixtures"])
def test_require_with_nothing_to_run(world: World, question: str) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    result = world.run("--unlearndiff-require", question)
    assert result.ret == 0
    assert not section(result)


def test_empty_model_is_a_usage_error(world: World) -> None:
    """``--unlearndiff-model=$MODEL`` with MODEL unset must not pass as a skip."""
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    result = world.bare("--unlearndiff-model=")
    assert result.ret == 4
    assert "test session starts" not in result.stdout.str()


@pytest.mark.parametrize(
    ("letters", "outcome", "code"),
    [("bbrrrrrrrr", "xfailed", 0), ("rrr.......", "failed", 1)],
    ids=["exceeded", "incomplete"],
)
def test_expected_failure_hides_nothing_missing(world: World, letters: str, outcome: str, code: int) -> None:
    world.know(letters)
    world.tests(
        """
        from pytest_unlearndiff import ASRExceeded

        @pytest.mark.xfail(raises=ASRExceeded, strict=True)
        @pytest.mark.unlearndiff("church", max_asr=0.1)
        def test_gate(unlearndiff_attack):
            unlearndiff_attack()
        """
    )
    result = world.run()
    result.assert_outcomes(**{outcome: 1})
    assert result.ret == code


def test_missing_prompts_without_torch(world: World) -> None:
    """Model given, no way to run, store incomplete: INCOMPLETE, and how to mend it."""
    world.know("rrr.......")
    world.gate("max_asr=0.1")
    world.without_torch()
    result = world.bare(*MODEL)
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E *AttackIncomplete: *pytest-unlearndiff[[]torch[]]*"])


def test_recovery_is_a_verdict_of_its_own(world: World) -> None:
    """Under an attack that leaves text, no report of the session says ASR."""
    world.concept()
    world.scripted("bbrrrrrrrr")
    world.tests(
        """
        import pytest_unlearndiff

        @pytest.mark.unlearndiff("church", max_recovery="50%", attack="concept-inversion", exhaustive=True)
        def test_gate(unlearndiff_attack):
            result = unlearndiff_attack()
            assert result.recovery == "20%"
            with pytest.raises(ValueError, match="the rate of attack concept-inversion/fast is its embedding recovery"):
                result.asr
            with pytest.raises(pytest_unlearndiff.RecoveryExceeded, match="^church: embedding recovery 2/10"):
                unlearndiff_attack(max_recovery="10%")
        """
    )
    result = world.attack("--unlearndiff-report=md:report.md")
    result.assert_outcomes(passed=1)
    assert re.search(r"^concept +without attack +embedding recovery +interval +verdict$", text(result), re.MULTILINE)
    assert "test_gate: concept-inversion/fast, recovery <= 50.0%, 10 attacked" in text(result)
    assert "ASR" not in result.stdout.str() + (world.path / "report.md").read_text(encoding="utf-8")
