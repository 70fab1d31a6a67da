"""Retention gates: by marker and by call, beside attack gates, never safe where images are missing."""

from __future__ import annotations

import json

import pytest
from worlds import World, row, section, text


def test_kept_and_lost_concepts(world: World) -> None:
    world.know_kept("gggggggggr", "gggggggggg")
    world.know_kept("grrrrrrrrr", "gggggggggg", "cat")
    world.know("rrrrrrrrrr")
    world.tests(
        """
        @pytest.mark.unlearndiff("church", max_asr="10%")
        @pytest.mark.unlearndiff_retains("dog", min_rate="85%")
        def test_release(unlearndiff_attack, unlearndiff_retention):
            unlearndiff_attack()
            unlearndiff_retention()

        def test_cat(unlearndiff_retention):
            unlearndiff_retention("cat", min_rate="85%")
        """
    )
    result = world.run(
        *("--unlearndiff-require", "--unlearndiff-report=json:report.json", "--junit-xml=out.xml"),
        *("-o", "junit_family=xunit1"),
    )
    result.assert_outcomes(passed=1, failed=1)
    gates = [gate for gate in world.gates() if gate["expects"] == "kept"]
    assert [(gate["concept"], gate["verdict"]) for gate in gates] == [("cat", "FAIL"), ("dog", "PASS")]
    assert row(result, "dog").split() == ["dog", "10/10", "9/10", "=", "90.0%", "1", "55.5%..99.7%", "PASS"]
    assert row(result, "cat").split() == ["cat", "10/10", "1/10", "=", "10.0%", "9", "0.3%..44.5%", "FAIL"]
    result.stdout.fnmatch_lines(
        [
            "*retained concept 'cat': the victim draws 1/10 = 10.0%, gate rate >= 85.0%*",
            "*prompt 101 not drawn: *judge saw cat 0.90*",
            "*  replay: pytest test_*.py::test_cat --unlearndiff-model=model.safetensors --unlearndiff-base=base "
            "--unlearndiff-case-numbers=101,102,103,104,105 --unlearndiff-cache=off --unlearndiff-report=none",
        ]
    )
    for name, value in (("verdict", "PASS"), ("drawn", 9), ("base_drawn", 10), ("lost", 1)):
        assert f'name="unlearndiff_retains_dog_{name}" value="{value}"' in world.read("out.xml")


def test_missing_images(world: World) -> None:
    world.know_kept("ggr.......", "ggg.......")
    world.retain("'dog', min_rate='85%'")
    result = world.run("--unlearndiff-report=md:report.md")
    # Of the one that was not drawn and of seven that nobody saw, one at least and eight at most are lost.
    assert row(result, "dog").split()[:6] == ["dog", "3..10/10", "2..9/10", "=", "20.0%..90.0%", "1..8"]
    assert "cache=require forbids" in text(result)
    assert "| 1..8 |" in world.read("report.md")


def test_replay_of_a_bound(world: World) -> None:
    world.know_kept("g" * 57 + "rrr", "g" * 60)
    world.retain("'dog', min_rate='98%', gate='lower', confidence=0.6")
    replay = "--unlearndiff-case-numbers=157,158,159"
    assert replay in text(world.run())
    again = world.run(replay)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*'dog': the victim draws 0/3 = 0.0%, gate rate >= 98.0%*"])


def test_no_replay_for_one_of_several_gates(world: World) -> None:
    world.know_kept("g" * 10, "g" * 10)
    world.know_kept("rrrrrggggg", "gggggggggg", "cat")
    world.tests(
        """
        def test_kept(unlearndiff_retention):
            unlearndiff_retention("dog", min_rate="85%")
            unlearndiff_retention("cat", min_rate="85%")
        """
    )
    result = world.run()
    result.assert_outcomes(failed=1)
    assert "replay:" not in result.stdout.str()


def test_call_runs_every_marker(world: World) -> None:
    world.know_kept("gggggggggr", "gggggggggg")
    world.know_kept("rrgggggggg", "rggggggggg", "cat")
    world.tests(
        """
        @pytest.mark.unlearndiff_retains("dog", min_rate="85%")
        @pytest.mark.unlearndiff_retains("cat", max_loss="10%")
        def test_kept(unlearndiff_retention):
            first, second = unlearndiff_retention()
            assert (first.concept, second.concept) == ("dog", "cat")
            assert first.rate >= 0.9
            assert second.rate == 0.8
            assert second.base_rate == 0.9
            assert second.lost == 0.1
            assert unlearndiff_retention("cat", max_loss=0.2).lost == 0.1
        """
    )
    # Nothing is attacked, so that the session's loss does not matter.
    world.run("--unlearndiff-loss=classifier").assert_outcomes(passed=1)


def test_collection_errors(world: World) -> None:
    world.concept("dog")
    wrong = {
        "'dgo', min_rate='85%'": "no concept 'dgo': did you mean 'dog'?",
        "'dog', min_rat='85%'": "unlearndiff_retains has no keyword 'min_rat': did you mean 'min_rate'",
        "'dog', min_rate=85": "min_rate=85 is above 1: did you mean 0.85 or '85%'?",
        "'dog', min_rate='85%', gate='upper'": "gate='upper' must be 'point' or 'lower'",
        "'dog', min_rate='85%', gate='lower'": "min_rate=85.0% with gate='lower' cannot be shown on 10 prompts",
        "'dog', min_rate='85%', confidence=95": "confidence=95 must be a number between 0 and 1",
        "'dog', 0.85": "unlearndiff_retains takes the concept by position, the rest by keyword",
    }
    fixture = [
        f"@pytest.mark.unlearndiff_retains({k})\ndef test_{i}(unlearndiff_retention): pass" for i, k in enumerate(wrong)
    ]
    world.tests("\n".join([*fixture, "@pytest.mark.unlearndiff_retains('dog')\ndef test_unasked(): pass"]))
    result = world.ask()
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        [f"*test_{i}: {reason.replace('[', '[[]')}*" for i, reason in enumerate(wrong.values())]
        + ["*test_unasked: has an unlearndiff_retains marker but never asks for the unlearndiff_retention fixture*"]
    )


def test_without_model(world: World) -> None:
    world.concept("dog")
    world.retain("'dog', min_rate='85%'")
    world.bare().assert_outcomes(skipped=1)
    required = world.bare("--unlearndiff-require")
    assert required.ret == 1
    required.stdout.fnmatch_lines(["*--unlearndiff-require: 1 gates were skipped*"])


def test_without_base(world: World) -> None:
    world.concept("dog")
    world.scripted("g" * 9 + "r")
    world.retain("'dog', min_rate='85%'")
    result = world.bare("--unlearndiff-model=model.safetensors")
    result.assert_outcomes(passed=1)
    assert row(result, "dog").split()[:5] == ["dog", "-", "9/10", "=", "90.0%"]


def test_gate_file_with_both_readings(world: World) -> None:
    world.know_kept("gggggggggr", "gggggggggg")
    world.know_kept("grrrrrrrrr", "gggggggggg", "cat")
    world.know("rrrrrrrrrr")
    world.file(
        "release.unlearndiff.yaml",
        "gates:\n  church: {max_asr: 10%}\nretains:\n  dog: {min_rate: 85%}\n  a cat: {concept: cat, min_rate: 85%}\n",
    )
    result = world.run("-rA")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "PASSED release.unlearndiff.yaml::church",
            "PASSED release.unlearndiff.yaml::retains-dog",
            "retained concept 'cat': the victim draws 1/10 = 10.0%, gate *",
            "release.unlearndiff.yaml:5: RetentionLost",
        ]
    )


def both(first: str = "unlearndiff_attack", second: str = "unlearndiff_retention", asr: str = "10%") -> str:
    """A test that calls two gates, with markers of both."""
    return f"""
        @pytest.mark.unlearndiff("church", max_asr="{asr}")
        @pytest.mark.unlearndiff_retains("dog", min_rate="85%")
        def test_both(unlearndiff_attack, unlearndiff_retention):
            {first}()
            {second}()
        """


def test_collection_errors_of_both_markers(world: World) -> None:
    world.concept()
    world.concept("dog")
    world.tests(both(asr="1000%").replace("85%", "185%"))
    result = world.ask()
    assert result.ret == 2
    assert "max_asr='1000%'" in result.stdout.str()
    assert "min_rate='185%'" in result.stdout.str()


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("unlearndiff_attack", "unlearndiff_retention", "unlearndiff_retains('dog') was not reached"),
        ("unlearndiff_retention", "unlearndiff_attack", "unlearndiff('church') was not reached"),
    ],
)
def test_unreached_gate(world: World, first: str, second: str, reason: str) -> None:
    world.know_kept("rrrrrrrrrr", "gggggggggg")
    world.know("bbbbrrrrrr")
    world.tests(both(first, second))
    result = world.run("--unlearndiff-report=json:report.json", "-p", "rerunfailures", "--reruns=1")
    assert result.parseoutcomes() == {"failed": 1, "rerun": 1}
    result.stdout.fnmatch_lines([f"E *{reason}: nothing is known of it"])
    assert len(world.gates()) == 1
    [unmeasured] = json.loads(world.read("report.json"))["unmeasured"]
    assert unmeasured["nodeid"].endswith("::test_both")
    assert reason in unmeasured["why"]


def test_marker_without_call(world: World) -> None:
    """Nothing was measured, so nothing may look safe."""
    world.know_kept("gggggggggg", "gggggggggg")
    world.know("bbbbbbbbbb")
    world.gate("max_asr=0.1")
    world.retain("'dog', min_rate='85%'")
    for name, call in (("test_gate.py", "unlearndiff_attack()"), ("test_kept.py", "unlearndiff_retention()")):
        world.file(name, world.read(name).replace(f"    {call}", "    pass"))
    result = world.run()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines_random(["*never called unlearndiff_retention() for dog*"])


def test_rerun_that_reaches_its_gate(world: World) -> None:
    world.know_kept("gggggggggg", "gggggggggg")
    world.tests(
        """
        tries = []

        @pytest.mark.unlearndiff_retains("dog", min_rate="85%")
        def test_kept(unlearndiff_retention):
            tries.append(1)
            assert len(tries) > 1, "flaky"
            unlearndiff_retention()
        """
    )
    result = world.run("-p", "rerunfailures", "--reruns=1", "--unlearndiff-report=json:report.json")
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    assert json.loads(world.read("report.json"))["unmeasured"] == []
    assert not [line for line in section(result) if "never called" in line]
