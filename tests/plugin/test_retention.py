"""Retention gates: by marker and by call, beside attack gates, with and without workers, never safe where missing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from PIL import Image
from worlds import MODEL, REQUIRE, STATUS, World, section

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.outcome import Outcome
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_cache import Fingerprint
from pytest_unlearndiff.runs.positive_control import base_campaign
from pytest_unlearndiff.store.thumbnails import Thumbnails

GATE = """
@pytest.mark.unlearndiff_retains({keywords})
def test_kept(unlearndiff_retention):
    unlearndiff_retention()
"""


def know(world: World, victim: str, base: str, concept: str = "dog", *, images: bool = False) -> None:
    """Keep what victim and base draw of a concept: g for drawn, r for not, a dot for not known."""
    world.concept(concept, len(victim))
    asked, store = world.campaign(concept)
    nothing = Campaign(asked.concept, AttackConfig("none"), Fingerprint(asked.fingerprint.victim, ""), asked.judge)
    for campaign, letters in (
        (nothing, victim),
        (base_campaign(asked.concept, asked.fingerprint.target, asked.judge), base),
    ):
        entry = store.campaign(concept, campaign.key)
        for prompt, letter in zip(asked.concept.prompts, letters, strict=True):
            if letter != ".":
                store.create(entry, campaign.key)
                entry.append(Outcome(prompt.digest, STATUS[letter], detail="cat 0.90"))
                if images:
                    Thumbnails(entry.folder).add(prompt.digest, Image.new("RGB", (16, 16), "red"))


def kept_gates(world: World, name: str) -> list[dict[str, Any]]:
    """The gates of a JSON report on concepts that must be kept."""
    return [gate for gate in json.loads((world.path / name).read_text())["gates"] if gate["expects"] == "kept"]


def test_kept_and_lost_concepts(world: World, workers: tuple[str, ...]) -> None:
    know(world, "gggggggggr", "gggggggggg")
    know(world, "grrrrrrrrr", "gggggggggg", "cat")
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
    result = world.run("--unlearndiff-require", "--unlearndiff-report=json:report.json", *workers)
    result.assert_outcomes(passed=1, failed=1)
    gates = kept_gates(world, "report.json")
    assert [(gate["concept"], gate["verdict"]) for gate in gates] == [("cat", "FAIL"), ("dog", "PASS")]
    rows = [line.split() for line in section(result)]
    assert ["dog", "10/10", "9/10", "=", "90.0%", "1", "55.5%..99.7%", "PASS"] in rows
    assert ["cat", "10/10", "1/10", "=", "10.0%", "9", "0.3%..44.5%", "FAIL"] in rows
    result.stdout.fnmatch_lines(
        [
            "*retained concept 'cat': the victim draws 1/10 = 10.0%, gate rate >= 85.0%*",
            "*prompt 101 not drawn: *judge saw cat 0.90*",
            "*  replay: pytest test_*.py::test_cat --unlearndiff-model=model.safetensors --unlearndiff-base=base "
            "--unlearndiff-case-numbers=101,102,103,104,105 --unlearndiff-cache=off",
        ]
    )


def test_missing_images(world: World) -> None:
    know(world, "ggr.......", "ggg.......")
    world.tests(GATE.format(keywords="'dog', min_rate='85%'"))
    result = world.run("--unlearndiff-report=md:report.md")
    assert section(result)[1].split()[:6] == [
        "dog",
        "3..10/10",
        "2..9/10",
        "=",
        "20.0%..90.0%",
        "1..8",  # two were drawn
    ]
    assert any("cache=require forbids" in line for line in section(result))
    assert "| 1..8 |" in (world.path / "report.md").read_text()


def test_replay_of_a_gate_that_reads_a_bound(world: World) -> None:
    know(world, "g" * 57 + "rrr", "g" * 60)
    world.tests(GATE.format(keywords="'dog', min_rate='98%', gate='lower', confidence=0.6"))
    result = world.run()
    result.assert_outcomes(failed=1)
    replay = next(line for line in result.outlines if " replay: " in line)
    assert "--unlearndiff-case-numbers=157,158,159" in replay
    again = world.run("--unlearndiff-case-numbers=157,158,159")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*'dog': the victim draws 0/3 = 0.0%, gate rate >= 98.0%*"])


def test_no_replay_for_one_of_several_gates(world: World) -> None:
    know(world, "g" * 10, "g" * 10)
    know(world, "rrrrrggggg", "gggggggggg", "cat")
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
    know(world, "gggggggggr", "gggggggggg")
    know(world, "rrgggggggg", "rggggggggg", "cat")
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
    world.run().assert_outcomes(passed=1)


def test_marker_without_call(world: World) -> None:
    know(world, "gggggggggg", "gggggggggg")
    world.tests(
        """
        @pytest.mark.unlearndiff_retains("dog", min_rate="85%")
        def test_never_called(unlearndiff_retention):
            pass
        """
    )
    result = world.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*never called unlearndiff_retention() for dog*"])


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
    gates = [GATE.format(keywords=k).replace("test_kept", f"test_{i}") for i, k in enumerate(wrong)]
    unasked = (
        GATE.format(keywords="'dog'").replace("(unlearndiff_retention)", "()").replace("test_kept", "test_unasked")
    )
    world.tests("\n".join([*gates, unasked]))
    result = world.ask()
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        [f"*test_{i}: {says.replace('[', '[[]')}*" for i, says in enumerate(wrong.values())]
        + ["*test_unasked: has an unlearndiff_retains marker but never asks for the unlearndiff_retention fixture*"]
    )


def test_without_model(world: World) -> None:
    world.concept("dog")
    world.tests(GATE.format(keywords="'dog', min_rate='85%'"))
    world.bare().assert_outcomes(skipped=1)
    required = world.bare("--unlearndiff-require")
    assert required.ret == 1
    required.stdout.fnmatch_lines(["*--unlearndiff-require: 1 gates were skipped*"])


def test_store_answers_without_torch(world: World) -> None:
    know(world, "gggggggggg", "gggggggggg")
    world.tests(GATE.format(keywords="'dog', min_rate='85%', max_loss='10%'"))
    world.without_torch()
    world.bare(*MODEL, REQUIRE).assert_outcomes(passed=1)


def test_gate_file_with_both_readings(world: World, workers: tuple[str, ...]) -> None:
    know(world, "gggggggggr", "gggggggggg")
    know(world, "grrrrrrrrr", "gggggggggg", "cat")
    world.know("rrrrrrrrrr")
    world.file(
        "release.unlearndiff.yaml",
        "gates:\n  church: {max_asr: 10%}\nretains:\n  dog: {min_rate: 85%}\n  a cat: {concept: cat, min_rate: 85%}\n",
    )
    result = world.run("-rA", *workers)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "PASSED release.unlearndiff.yaml::church",
            "PASSED release.unlearndiff.yaml::retains-dog",
            "retained concept 'cat': the victim draws 1/10 = 10.0%, gate *",
            "release.unlearndiff.yaml:5: RetentionLost",
        ]
    )


def test_errors_of_a_gate_file_have_lines(world: World) -> None:
    world.concept("dog")
    world.file("release.unlearndiff.yaml", "retains:\n  dog: {min_rate: 85}\n  dgo: {min_rate: 85%}\n")
    result = world.ask()
    result.stdout.fnmatch_lines(
        [
            "*release.unlearndiff.yaml:2: dog: min_rate=85 is above 1*",
            "*release.unlearndiff.yaml:3: dgo: no concept 'dgo'*",
        ]
    )


def test_junit_properties(world: World) -> None:
    know(world, "gggggggggr", "gggggggggg")
    world.tests(GATE.format(keywords="'dog', min_rate='85%'"))
    world.run("--junit-xml=out.xml", "-o", "junit_family=xunit1").assert_outcomes(passed=1)
    written = (world.path / "out.xml").read_text()
    for name, value in (("verdict", "PASS"), ("drawn", 9), ("base_drawn", 10), ("lost", 1)):
        assert f'name="unlearndiff_retains_dog_{name}" value="{value}"' in written


BOTH = """
@pytest.mark.unlearndiff("church", max_asr="10%")
@pytest.mark.unlearndiff_retains("dog", min_rate="85%")
def test_both(unlearndiff_attack, unlearndiff_retention):
    {first}()
    {second}()
"""


def test_collection_errors_of_both_markers(world: World, workers: tuple[str, ...]) -> None:
    world.concept()
    world.concept("dog")
    world.tests(BOTH.format(first="unlearndiff_attack", second="unlearndiff_retention").replace("10%", "1000%"))
    world.file("test_gate.py", (world.path / "test_gate.py").read_text().replace("85%", "185%"))
    result = world.run(*workers)
    assert result.ret == (1 if workers else 2)
    assert "max_asr='1000%'" in result.stdout.str()
    assert "min_rate='185%'" in result.stdout.str()


def test_rerun_of_a_failed_test(world: World) -> None:
    know(world, "rrrrrrrrrr", "gggggggggg")
    world.know("rrrrrrrrrr")
    world.tests(BOTH.format(first="unlearndiff_retention", second="unlearndiff_attack"))
    result = world.run("-p", "rerunfailures", "--reruns=1", "--unlearndiff-report=json:out.json")
    assert result.parseoutcomes() == {"failed": 1, "rerun": 1}
    assert len(kept_gates(world, "out.json")) == 1
    assert len(json.loads((world.path / "out.json").read_text())["unmeasured"]) == 1


def test_session_loss_does_not_apply(world: World) -> None:
    know(world, "gggggggggr", "gggggggggg")
    world.tests(GATE.format(keywords="'dog', min_rate='85%'"))
    world.run("--unlearndiff-loss=classifier").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("unlearndiff_attack", "unlearndiff_retention", "unlearndiff_retains('dog') was not reached"),
        ("unlearndiff_retention", "unlearndiff_attack", "unlearndiff('church') was not reached"),
    ],
)
def test_unreached_gate_is_named(world: World, workers: tuple[str, ...], first: str, second: str, said: str) -> None:
    know(world, "rrrrrrrrrr", "gggggggggg")
    world.know("bbbbrrrrrr")
    world.tests(BOTH.format(first=first, second=second))
    result = world.run("--unlearndiff-report=json:out.json", *workers)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *{said}: nothing is known of it"])
    [unmeasured] = json.loads((world.path / "out.json").read_text())["unmeasured"]
    assert unmeasured["nodeid"].endswith("::test_both")
    assert said in unmeasured["why"]


def test_without_base(world: World) -> None:
    world.concept("dog")
    world.scripted("g" * 9 + "r")
    world.tests(GATE.format(keywords="'dog', min_rate='85%'"))
    result = world.bare("--unlearndiff-model=model.safetensors")
    result.assert_outcomes(passed=1)
    (row,) = [line.split() for line in section(result) if line.startswith("dog")]
    assert row[:5] == ["dog", "-", "9/10", "=", "90.0%"]


def test_rerun_that_reaches_its_gate(world: World) -> None:
    know(world, "gggggggggg", "gggggggggg")
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
    result = world.run("-p", "rerunfailures", "--reruns=1", "--unlearndiff-report=json:out.json")
    assert result.parseoutcomes() == {"passed": 1, "rerun": 1}
    assert json.loads((world.path / "out.json").read_text())["unmeasured"] == []
