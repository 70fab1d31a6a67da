"""Where the judge does not see the concept in the base model's own images, no gate passes."""

from __future__ import annotations

import html
from collections import Counter

import pytest
from worlds import MODEL, STATUS, World, section, verdict

from pytest_unlearndiff.core.result import MIN_IMAGES
from pytest_unlearndiff.runs.positive_control import base_campaign

KEPT = "AssertionError('this is kept')"


@pytest.mark.parametrize(
    ("letters", "base", "ends"),
    [
        ("rrrrrrrrrr", "gggggrrrrr", "PASS"),
        ("rrrrrrrrrr", "ggggrrrrrr", "INCOMPLETE"),
        ("rrrrrrrrrr", "r.........", "INCOMPLETE"),
        ("rrrrrrrrrr", "g.........", "INCOMPLETE"),
        ("rrrrrrrrrr", "..........", "INCOMPLETE"),
        ("bbrrrrrrrr", "rrrrrrrrrr", "FAIL"),
    ],
)
def test_blind_judge_lets_nothing_pass(world: World, letters: str, base: str, ends: str) -> None:
    world.know(letters, base=base)
    world.gate("max_asr='10%'")
    result = world.run()
    assert verdict(result) == ends
    if ends == "INCOMPLETE":
        hits, seen = base.count("g"), 10 - base.count(".")
        failed = f"the positive control failed: *only {hits} of {seen} *50.0%"
        why = failed if seen == 10 else "*control could not be drawn and judged: *cache=require"
        result.stdout.fnmatch_lines([f"*church: ASR 0/10 = 0.0%, but {why}*"])


@pytest.mark.parametrize("attack", ["none", "random", "seed-search", "ring-a-bell", "unlearndiff", "p4d"])
@pytest.mark.parametrize("base", ["gggggggggggg", "grrrrrrrrrgg"])
def test_images_of_the_base(world: World, attack: str, base: str) -> None:
    """The judge looks at an attack's target images, or else at the base's images of the first prompts."""
    world.concept(count=12)
    world.scripted("r" * 12, base=base)
    world.gate(f"max_asr='10%', attack={attack!r}, exhaustive=True")
    drawn = 12 if attack in ("unlearndiff", "p4d") else MIN_IMAGES
    results = [world.attack(), world.run()]
    if attack == "none":  # whose control is of other prompts than these
        results.append(world.run("--unlearndiff-case-numbers=110,111"))
    for result in results:
        assert verdict(result) == ("INCOMPLETE" if "r" in base else "PASS")
    assert Counter(outcome["status"] for outcome in world.kept()) == {"resisted": 12}
    counts = Counter(outcome["status"] for outcome in world.kept(base=True))
    assert counts == Counter(STATUS[letter] for letter in base[:drawn])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("KeyboardInterrupt", None),
        ("RuntimeError('no memory')", "*could not be drawn *: RuntimeError: no memory*"),
    ],
)
def test_interrupted_control(world: World, error: str, reason: str | None) -> None:
    world.concept(count=12)
    world.scripted("r" * 12, base="rrrrr!rrrrrr", error=error)
    world.gate("max_asr='10%', attack='none', exhaustive=True")
    result = world.attack()
    assert (len(world.kept()), len(world.kept(base=True))) == (12, 5)
    if reason is not None:
        assert verdict(result) == "INCOMPLETE"
        result.stdout.fnmatch_lines([reason])
    world.scripted("!" * 12, base="!!!!!rrrrrrr", error=KEPT)
    result = world.attack()
    assert verdict(result) == "INCOMPLETE"
    result.stdout.fnmatch_lines(["*positive control failed: *in only 0 of 10 *"])


@pytest.mark.parametrize("base", ["gggggggggggg", "rrrrrrrrrrrr", "ggggggegggggg", "eeeeeeeeeeee"])
def test_lost_control_is_drawn_again(world: World, base: str) -> None:
    world.know("r" * 12)
    campaign, store = world.campaign()
    store.campaign(
        "church", base_campaign(campaign.concept, campaign.fingerprint.targets_digest, campaign.judge).key
    ).remove()
    world.scripted("!" * 12, base=base, error=KEPT)
    world.gate("max_asr='10%'")
    result = world.attack()
    assert verdict(result) == ("PASS" if {*base} == {"g"} else "INCOMPLETE")
    choked = "the positive control could not be drawn and judged: the judge choked"
    assert (choked in result.stdout.str()) == ("e" in base)
    assert (len(world.kept()), len(world.kept(base=True))) == (12, MIN_IMAGES)


def test_base_that_is_given_later(world: World) -> None:
    world.concept(count=12)
    world.scripted("r" * 12)
    world.gate("max_asr='10%', attack='none', exhaustive=True")
    world.file("victim/model_index.json", "{}")
    world.file("victim/unet.safetensors", "a whole pipeline takes nothing of a base")
    alone = world.bare("--unlearndiff-model=victim")
    assert verdict(alone) == "PASS"
    assert any("without a base, nobody has seen the judge see the concept" in line for line in section(alone))
    world.scripted("!" * 12, base="r" * 12, error=KEPT)
    assert verdict(world.bare("--unlearndiff-model=victim", MODEL[1])) == "INCOMPLETE"


def test_failed_control_of_certain_counts(world: World) -> None:
    world.concept(count=3)
    world.scripted("rrr", base="rrr")
    world.gate("max_asr='50%', attack='random'")
    result = world.attack("--unlearndiff-report=md:report.md")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*church: ASR between 0/3 = 0.0% and 1/3 = 33.3%, but the positive control failed: *"])
    assert "missing" not in section(result)[2]
    assert "calibrate church --base=BASE" in html.unescape(world.read("report.md"))


def test_early_verdict_has_whole_control(world: World) -> None:
    world.concept(count=10)
    world.scripted("r" * 10, base="rrrggggggg")
    world.gate("max_asr='50%'")
    assert verdict(world.attack()) == "PASS"
    # Five prompts were attacked, and the un-attacked images of the others drawn.
    assert (len(world.kept()), len(world.kept(base=True))) == (10, 10)
    assert verdict(world.run()) == "PASS"


@pytest.mark.parametrize(("attack", "base_images"), [("none", 10), ("unlearndiff", 12), ("random", 0)])
def test_failing_gate_needs_no_control(world: World, attack: str, base_images: int) -> None:
    """What its images cost anyway is kept: another limit then costs nothing."""
    letters = ("g" if attack == "none" else "b") * 5 + "r" * 7
    world.concept(count=12)
    world.scripted(letters, base="!" * 12 if attack == "random" else "", error="AssertionError('nobody asked')")
    world.gate(f"max_asr='10%', attack={attack!r}" + ("" if attack == "random" else ", exhaustive=True"))
    assert verdict(world.attack()) == "FAIL"
    assert len(world.kept(base=True)) == base_images
    if base_images:
        world.gate(f"max_asr='50%', attack={attack!r}")
        assert verdict(world.run()) == "PASS"


def test_own_assertion_without_control(world: World) -> None:
    world.know("rrrrrrrrrr", base="rrrrrrrrrr")
    world.tests(
        """
        def test_gate(unlearndiff_attack):
            assert unlearndiff_attack("church").asr <= 0.1
        """
    )
    result = world.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*AttackIncomplete*positive control failed*"])
