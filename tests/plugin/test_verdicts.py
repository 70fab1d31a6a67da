"""Every row of the verdict table: the same verdict, outcome and exit code with and without workers."""

from __future__ import annotations

import re

import pytest
from worlds import MODEL, World, section

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


@pytest.mark.parametrize("verdict", TABLE)
def test_verdict(world: World, workers: tuple[str, ...], verdict: str) -> None:
    for i, (letters, keywords, _) in enumerate(TABLE[verdict]):
        world.know(letters, f"thing{i}", unattacked=True)
        world.gate(keywords, f"test_{i}", f"thing{i}")
    result = world.run(*workers)
    count, passes = len(TABLE[verdict]), verdict == "PASS"
    result.assert_outcomes(passed=count * passes, failed=count * (not passes))
    assert result.ret == (0 if passes else 1)
    for i, (_, _, text) in enumerate(TABLE[verdict]):
        assert [line for line in section(result) if line.startswith(f"thing{i} ") and line.endswith(f" {verdict}")]
        if not passes:
            result.stdout.re_match_lines([rf"E .*{ERRORS[verdict]}: thing{i}: .*{re.escape(text)}"])


def test_skipped_without_model(world: World, workers: tuple[str, ...]) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    result = world.bare("-rs", *workers)
    result.assert_outcomes(skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*add --unlearndiff-model=PATH*"])


def test_require_with_skipped_gate(world: World, workers: tuple[str, ...]) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    result = world.bare("--unlearndiff-require", *workers)
    result.assert_outcomes(skipped=1)
    assert result.ret == 1
    assert "test_gate.py::test_gate" in "".join(section(result))


def test_require_with_skip_mark(world: World, workers: tuple[str, ...]) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    world.tests(
        """
        @pytest.mark.skip
        @pytest.mark.unlearndiff("church", max_asr=0.1)
        def test_left_out(unlearndiff_attack):
            unlearndiff_attack()
        """,
        name="test_left_out",
    )
    result = world.run("--unlearndiff-require", *workers)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 1


def test_require_without_gate(world: World, workers: tuple[str, ...]) -> None:
    world.tests("def test_something_else(): pass")
    result = world.run("--unlearndiff-require", *workers)
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    assert "no gate ran" in "".join(section(result))


@pytest.mark.parametrize("question", ["--collect-only", "--fixtures"])
def test_require_with_nothing_to_run(world: World, question: str) -> None:
    world.concept()
    world.gate("max_asr=0.1")
    result = world.run("--unlearndiff-require", question)
    assert result.ret == 0
    assert not section(result)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--unlearndiff-model=nowhere.pt", "there is nothing at"),
        ("--unlearndiff-base=nowhere", "there is nothing at"),
        ("--unlearndiff-concepts=nowhere", "there is nothing at"),
        ("--unlearndiff-batch-size=0", "a whole number of at least 1"),
        ("--unlearndiff-cache=on", "one of rw, ro, refresh, off, require"),
        ("--unlearndiff-attack=fgsm", "one of unlearndiff, p4d, ring-a-bell, random, seed-search, transfer, none"),
        ("--unlearndiff-schedule=slow", "one of paper, paper+repeated-noise, fast"),
    ],
)
def test_bad_option_is_a_usage_error(world: World, option: str, reason: str) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    result = world.run(option)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: *{option.split('=')[0]}*{reason}*"])
    assert "test session starts" not in result.stdout.str()


def test_empty_model_is_a_usage_error(world: World) -> None:
    """``--unlearndiff-model=$MODEL`` with MODEL unset must not pass as a skip."""
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    assert world.bare("--unlearndiff-model=").ret == 4


def test_bad_marker_is_a_collection_error(world: World, workers: tuple[str, ...]) -> None:
    world.concept()
    world.gate("max_asr=10")
    result = world.run(*workers)
    assert result.ret == (1 if workers else 2)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR collecting test_gate.py*", "*test_gate.py::test_gate: *max_asr=10*"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("letters", "outcome", "code"),
    [("bbrrrrrrrr", "xfailed", 0), ("rrr.......", "failed", 1)],
    ids=["exceeded", "incomplete"],
)
def test_expected_failure_hides_nothing_missing(
    world: World, workers: tuple[str, ...], letters: str, outcome: str, code: int
) -> None:
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
    result = world.run(*workers)
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


def test_marker_without_call(world: World) -> None:
    """Nothing was measured, so nothing may look safe."""
    world.know("bbbbbbbbbb")
    world.tests(
        """
        @pytest.mark.unlearndiff("church", max_asr=0.1)
        def test_gate(unlearndiff_attack):
            pass
        """
    )
    assert world.run().ret == 1


def test_without_terminal_plugin(world: World) -> None:
    world.know("bbrrrrrrrr")
    world.gate("max_asr=0.5")
    assert world.run("-p", "no:terminal").ret == 0
