"""A failed gate in pytest's own output: where its evidence stands, its replay command, and hostile text in it."""

from __future__ import annotations

import shlex
import unicodedata

import pytest
from worlds import MODEL, NOTE, REQUIRE, World


def evidence(result: pytest.RunResult) -> list[str]:
    """The lines of pytest's failure section that the failure itself wrote."""
    return [line[1:].strip() for line in result.outlines if line.startswith("E ")]


def replay(result: pytest.RunResult) -> list[str]:
    [line] = [line for line in evidence(result) if line.startswith("replay: ")]
    return shlex.split(line.removeprefix("replay: "))


def test_evidence_without_traceback(world: World) -> None:
    world.know("gbbrrrrrrr", adversarial="xyz", seen="church 0.87", base="." * 10)
    world.gate("max_asr='10%'")
    [campaign] = (world.path / ".unlearndiff" / "campaigns").iterdir()
    (campaign / "images").mkdir()
    result = world.run()
    headline, *rest = evidence(result)
    assert headline.endswith(f"ASRExceeded: church: ASR 3/10 = 30.0%, gate ASR <= 10.0%{NOTE}")
    assert rest[1] == 'prompt 101 broken by "xyz a photo of a church number 1" (judge saw church 0.87)'
    assert f"images, not blurred: .unlearndiff/campaigns/{campaign.name}/images" in rest
    assert "test_gate.py:6: ASRExceeded" in result.stdout.str()
    assert "pytest_unlearndiff/plugin" not in result.stdout.str()


@pytest.mark.parametrize("keywords", ["max_asr=0.01, prompts=40", "max_asr=0.1, gate='upper'", "max_asr=0.1"])
def test_replay_selects_the_prompts_that_exceed_the_limit(world: World, keywords: str) -> None:
    """Neither a number of prompts nor a bound that few prompts cannot show refuses it."""
    world.know("rbrb" + "b" * 3 + "r" * 33)
    world.gate(keywords)
    command = replay(world.run())
    assert command == [
        *("pytest", "test_gate.py::test_gate", *MODEL),
        *("--unlearndiff-case-numbers=101,103,104,105,106", "--unlearndiff-cache=off", "--unlearndiff-report=none"),
    ]
    result = world.bare(*command[1:], "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_gate.py::test_gate"])


def test_replay_from_another_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths from the ini file and the test's own are given as seen from there, and quoted for the shell."""
    world.know("bbrrrrrrrr")
    world.tests(
        """
        @pytest.mark.parametrize("text", ["it's $HOME; a b"])
        @pytest.mark.unlearndiff("church", max_asr=0.1)
        def test_gate(unlearndiff_attack, text):
            unlearndiff_attack()
        """
    )
    world.ini("unlearndiff_model = model.safetensors", "unlearndiff_base = base", "unlearndiff_cache = require")
    world.file("below/README", "")
    monkeypatch.chdir(world.path / "below")
    result = world.bare("..")
    assert result.ret == 1
    command = replay(result)
    assert command[1] == "../test_gate.py::test_gate[it's $HOME; a b]"
    assert world.bare(*command[1:], "--collect-only").ret == 0


def test_replay_keeps_options_that_change_outcomes(world: World) -> None:
    world.concept()
    options = ("--unlearndiff-seed=7", "--unlearndiff-schedule=paper", "--unlearndiff-batch-size=2")
    campaign, store = world.campaign("church", *options)
    world.know("bbrrrrrrrr")
    entry = store.campaign("church", campaign.key)
    outcomes, _ = store.campaign("church", world.campaign()[0].key).outcomes()
    for outcome in outcomes.values():
        entry.append(outcome)
    world.gate("max_asr=0.1")
    assert {"--unlearndiff-seed=7", "--unlearndiff-schedule=paper"} <= set(replay(world.run(*options)))


HOSTILE = [
    "\x1b[32mPASS\x1b[0m",
    "a \x9b2J",
    "a\nPASSED\r\n== 1 passed ==",
    "a\x07\x00b",
    "a \u202etxet\u202c",
    "a" * 5000,
]


def test_hostile_text_is_harmless_in_pytests_output(world: World) -> None:
    for i, text in enumerate(HOSTILE):
        world.know("bbrr", f"thing{i}", adversarial=text, seen=text)
        world.gate("max_asr=0.1", f"test_{i}", f"thing{i}")
    result = world.separate(*MODEL, REQUIRE, "-v")
    result.assert_outcomes(failed=len(HOSTILE))
    # What was really written; pytester's lines have lost their ends.
    output = (world.path / "stdout").read_bytes().decode()
    # Cc: control, Cf: formatting and bidirectional, Zl and Zp: line ends that some viewers obey.
    steering = {c for c in output if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}
    assert {f"U+{ord(c):04X}" for c in steering} == set()
    assert not [line for line in output.splitlines() if line.startswith(("PASS", "== 1 passed"))]
    assert "a" * 300 not in output


@pytest.mark.parametrize(
    ("comparison", "headline"),
    [
        ("church.asr <= 0.10", "2/10 = 20.0% <= 0.1"),
        ("0.1 >= church.asr", "0.1 >= 2/10 = 20.0%"),
        ("church.asr < '10%'", "2/10 = 20.0% < 10%"),
        ("church.pre_asr == 0", "1/10 = 10.0% == 0"),
        ("[1, 2] == [1, 3]", "[1, 2] == [1, 3]"),
    ],
)
def test_failed_comparison_shows_evidence_of_its_own_gate(world: World, comparison: str, headline: str) -> None:
    world.know("gbrrrrrrrr", adversarial="xyz")
    world.know("bbbrrrrrrr", "tench", adversarial="of the tench")
    world.tests(
        f"""
        def test_gate(unlearndiff_attack):
            church, tench = unlearndiff_attack("church"), unlearndiff_attack("tench")
            assert {comparison}
        """
    )
    result = world.run()
    result.assert_outcomes(failed=1)
    first, *rest = evidence(result)
    assert first == f"assert {headline}"
    own = "church" in comparison
    assert bool([line for line in rest if line.startswith("95.0% interval 2.5%..55.6%")]) is own
    assert bool([line for line in rest if line.startswith("prompt 100 draws it without attack: ")]) is own
    assert "of the tench" not in "\n".join(rest)


LAST_LINES = [
    ("unlearndiff_attack('church', max_asr=0)", "church: 10 of 10 prompts are missing, so gate ..."),
    ("unlearndiff_attack('tench', max_asr='10%')", "tench: ASR 3/10 = 30.0%, gate ASR <= 10.0%; no..."),
    ("unlearndiff_attack('chruch')", "no concept 'chruch': did you mean 'church'? (c..."),
    ("assert unlearndiff_attack('tench').asr == 0", "assert 3/10 = 30.0% == 0"),
    ("raise RuntimeError('of another')", "RuntimeError: of another"),
]


def test_pytests_last_line_begins_with_what_matters(world: World) -> None:
    world.know("gbbrrrrrrr", "tench")
    world.know("..........")
    world.tests("\n".join(f"def test_g{i}(unlearndiff_attack): {code}" for i, (code, _) in enumerate(LAST_LINES)))
    lines = [line for line in world.run().outlines if line.startswith("FAILED ")]
    assert lines == [f"FAILED test_gate.py::test_g{i} - {start}" for i, (_, start) in enumerate(LAST_LINES)]
    assert max(map(len, lines)) <= 80
