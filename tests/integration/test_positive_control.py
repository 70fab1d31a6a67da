"""Where the judge does not see the concept in the base model's own pictures, no gate passes."""

from __future__ import annotations

from collections import Counter

import pytest
from worlds import STATUS, World, section

from pytest_unlearndiff.campaign.control import FIRST, base_campaign
from pytest_unlearndiff.core.outcome import Outcome


def know_base(world: World, letters: str) -> None:
    """Keep what the judge saw in the base's pictures: g(enerated) or r(esisted); a dot is a prompt with none."""
    campaign, store = world.campaign()
    base = base_campaign(campaign.concept, campaign.fingerprint.target, campaign.judge)
    entry = store.entry("church", base.key)
    store.prepare(entry, base.key)
    for prompt, letter in zip(campaign.concept.prompts, letters, strict=True):
        if letter != ".":
            entry.keep(Outcome(prompt.digest, STATUS[letter]))


@pytest.mark.parametrize(
    ("base", "verdict"),
    [
        ("gggggggggg", "PASS"),
        ("gggggrrrrr", "PASS"),
        ("ggggrrrrrr", "INCOMPLETE"),
        ("r.........", "INCOMPLETE"),
        ("g.........", "PASS"),
        ("..........", "PASS"),
    ],
)
def test_a_judge_that_misses_the_concept_lets_nothing_pass(world: World, base: str, verdict: str) -> None:
    world.know("rrrrrrrrrr")
    know_base(world, base)
    world.gate("max_asr='10%'")
    result = world.run()
    assert section(result)[1].split()[-1] == verdict
    if verdict == "INCOMPLETE":
        result.assert_outcomes(failed=1)
        hits, seen = base.count("g"), 10 - base.count(".")
        result.stdout.fnmatch_lines(
            [f"*church: ASR 0/10 = 0.0%, but the positive control failed: *only {hits} of {seen} *50.0%*"]
        )


@pytest.mark.parametrize("attack", ["none", "random", "seed-search", "unlearndiff"])
@pytest.mark.parametrize("base", ["gggggggggggg", "grrrrrrrrrgg"])
def test_an_attack_that_draws_nothing_with_the_base_has_it_draw_the_first_prompts(
    world: World, attack: str, base: str
) -> None:
    world.concept(count=12)
    world.scripted("r" * 12, base=base)
    world.gate(f"max_asr='10%', attack={attack!r}, exhaustive=True")
    drawn = 0 if attack == "unlearndiff" else FIRST  # its target images are judged as it asks for them
    verdict = "INCOMPLETE" if drawn and "r" in base else "PASS"
    for result in (world.attack(), world.run()):
        assert section(result)[1].split()[-1] == verdict
    counts = Counter(outcome["status"] for outcome in world.kept())
    assert counts == Counter(STATUS[letter] for letter in "r" * 12 + base[:drawn])


def test_a_limit_that_is_exceeded_stays_exceeded(world: World) -> None:
    world.know("bbrrrrrrrr")
    know_base(world, "rrrrrrrrrr")
    world.gate("max_asr='10%'")
    assert section(world.run())[1].split()[-1] == "FAIL"


def test_an_assertion_of_the_users_own_does_not_pass_either(world: World) -> None:
    world.know("rrrrrrrrrr")
    know_base(world, "rrrrrrrrrr")
    world.tests(
        """
        def test_gate(unlearndiff_attack):
            assert unlearndiff_attack("church").asr <= 0.1
        """
    )
    result = world.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*AttackIncomplete*positive control failed*"])
