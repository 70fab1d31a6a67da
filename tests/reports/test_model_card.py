"""Model cards, leaderboard rows and badges: read back by the libraries and programs that take them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from huggingface_hub import ModelCard
from msgspec.structs import replace
from sessions import TENTH, quality, record, retained, session

from pytest_unlearndiff.core.concept import PromptSetFacts
from pytest_unlearndiff.core.errors import ReportError
from pytest_unlearndiff.core.gate import Gate
from pytest_unlearndiff.reports.gate_report_parts import ScoresReport
from pytest_unlearndiff.reports.leaderboard import badge, leaderboard
from pytest_unlearndiff.reports.model_card import update_model_card
from pytest_unlearndiff.reports.published import AUTHORS, PAPER_ATTACK
from pytest_unlearndiff.reports.session_report import SessionReport, UnmeasuredTest

SESSION = session(record("gb" + "r" * 8, "church"), retained("g" + "r" * 9))
THEIRS = """---
license: mit
tags: [art]
model-index:
- name: esd
  results:
  - task: {type: text-to-image}
    dataset: {type: coco, name: COCO}
    metrics: [{type: fid, value: 18.18}]
---
# ESD

Written by its authors.
"""


def results(card: str) -> dict[str, tuple[float, dict[str, Any]]]:
    """Read a card's metrics, as the Hub does: an error in its metadata is raised."""
    return {r.metric_type: (r.metric_value, r.metric_args or {}) for r in ModelCard(card).data.eval_results}


def test_new_card_has_every_rate_with_its_interval() -> None:
    found = results(update_model_card("", SESSION))
    assert {name: value for name, (value, _) in found.items()} == {
        "attack-success-rate": 20.0,
        "pre-attack-success-rate": 10.0,
        "retention": 10.0,
    }
    facts = found["attack-success-rate"][1]
    assert (facts["interval"], facts["prompts"], facts["verdict"]) == ([2.52, 55.61], 10, "FAIL")
    assert facts["key"] == SESSION.gone[0].key


def test_image_quality_is_in_cards_and_leaderboards() -> None:
    attacked = record("gb" + "r" * 8, "church", fingerprint="ab")
    measured = quality(fingerprint="ab")
    measured = replace(measured, run=replace(measured.run, victim=attacked.run.victim))
    both = SessionReport(gates=[attacked], quality=[measured])
    card = update_model_card("", both)
    found = results(card)
    assert (found["kid"][0], found["clip-score"][0]) == (0.03, 0.27)
    assert (found["kid"][1]["features"], found["kid"][1]["base"], found["kid"][1]["verdict"]) == (
        "dinov2",
        0.001,
        "FAIL",
    )
    assert "Nothing gates what this model must keep" not in card
    row = next(line for line in leaderboard(both).split("\n") if line.startswith("| ") and "20.00" in line)
    assert [cell.strip() for cell in row.split("|")][4:6] == ["-", "0.270"]
    assert json.loads(badge(both))["color"] == "red"
    assert "0 of 2 gates pass" in badge(both)


def test_card_keeps_what_others_wrote_and_is_updated_in_place() -> None:
    card = update_model_card(THEIRS, SESSION)
    data = ModelCard(card).data
    assert (data.license, data.tags, data.model_name) == ("mit", ["art", "concept-unlearning"], "esd")
    assert results(card)["fid"][0] == 18.18
    assert "Written by its authors." in card
    later = update_model_card(card, session(record("r" * 10, "church")))
    assert results(later)["attack-success-rate"][0] == 0.0
    assert set(results(later)) == {"fid", "attack-success-rate", "pre-attack-success-rate"}
    assert later.count("## Robustness of the unlearning") == 1
    assert "Nothing gates what this model must keep." in later
    assert update_model_card(later, session(record("r" * 10, "church"))) == later


def test_unknown_prompts_count_against_the_model() -> None:
    partly = session(record("b-er", "church"))
    assert results(update_model_card("", partly))["attack-success-rate"][0] == 75.0
    assert "| 0.00 to 50.00 | 25.00 to 75.00 | - | - |" in leaderboard(partly)
    assert "2 prompts not measured; run the gate with exhaustive=True" in leaderboard(partly)
    assert json.loads(badge(partly))["message"].startswith("church ASR up to 75.0%")


@pytest.mark.parametrize("card", ["", "Just text.\n"])
def test_card_without_metadata(card: str, caplog: pytest.LogCaptureFixture) -> None:
    updated = ModelCard(update_model_card(card, SESSION))
    assert updated.data.model_name == "esd.pt"
    assert updated.text.lstrip().startswith(card or "<!-- pytest-unlearndiff: begin -->")
    assert not caplog.records


def test_card_that_names_its_model_and_has_no_results() -> None:
    assert ModelCard(update_model_card("---\nmodel_name: Mine\n---\n", SESSION)).data.model_name == "Mine"


@pytest.mark.parametrize("card", ["---\nmodel-index: 7\n---\n", "---\n[unclosed\n---\n", "---\n- a list\n---\n"])
def test_unreadable_metadata_is_one_error(card: str) -> None:
    with pytest.raises(ReportError, match=r"the model card's metadata cannot be read: .*Correct it first"):
        update_model_card(card, SESSION)


def test_leaderboard_has_the_benchmarks_columns_and_says_what_cannot_be_compared() -> None:
    text = leaderboard(SESSION)
    assert "| Unlearned Methods | Pre-ASR (%) | ASR (%) | FID | CLIP-Score |" in text
    assert "| esd.pt | 10.00 | 20.00 | - | - |" in text
    assert "dog" not in text
    assert text.count("not comparable with the page") == 2
    theirs = PromptSetFacts(f"prompts of {AUTHORS}", rows=12, left_out=("church.csv:3: no text",))
    part = replace(record("gb" + "r" * 8, "church"), attack=PAPER_ATTACK, prompt_set=theirs)
    assert "not comparable with the page: 10 of the set's 11 prompts" in leaderboard(session(part))
    whole = replace(part, prompt_set=dataclasses.replace(theirs, rows=11))
    assert "not comparable" not in leaderboard(session(whole))


def test_clip_score_of_the_same_model_fills_its_column() -> None:
    kept = retained("g" * 9 + "r", name="captions")
    scores = ScoresReport(pairs=10, victim=0.3021, base=0.3112, change=(-0.011, -0.007))
    assert kept.base is not None
    kept = replace(kept, base=replace(kept.base, scores=scores))
    judged = replace(kept, campaign={"judge": {"kind": "clip-score@1"}})
    text = leaderboard(session(record("gb", "church"), judged))
    assert "| 50.00 | 100.00 | - | 0.302 |" in text
    assert "CLIP-Score of captions: mean score 0.302, the base's 0.311 (10 pairs): changed by -0.011..-0.007" in text
    for other in (kept, replace(judged, fingerprint="another")):
        assert "| 50.00 | 100.00 | - | - |" in leaderboard(session(record("gb", "church"), other))


@pytest.mark.parametrize(
    ("letters", "gate", "colour", "error"),
    [("rrr", Gate(TENTH), "brightgreen", False), ("bbr", Gate(TENTH), "red", True), ("bbr", Gate(), "blue", False)],
)
def test_badge_has_the_colour_of_the_worst_verdict(letters: str, gate: Gate, colour: str, error: bool) -> None:
    found = json.loads(badge(session(record(letters, "church", gate), retained("g" * 10))))
    assert (found["schemaVersion"], found["color"], found["isError"]) == (1, colour, error)


@pytest.mark.parametrize(
    "facts",
    [{"cut_short": "killed"}, {"unmeasured": [UnmeasuredTest("test_x.py::test_fish", "not reached", "cut short")]}],
)
@pytest.mark.parametrize(("letters", "colour"), [("rrr", "orange"), ("bbr", "red")])
def test_gates_that_were_not_reached_are_told(facts: dict[str, Any], letters: str, colour: str) -> None:
    partly = session(record(letters, "church", Gate(TENTH)), **facts)
    gap = "cut short" if "cut_short" in facts else "1 not measured"
    shown = json.loads(badge(partly))
    assert (shown["color"], shown["isError"]) == (colour, True)
    assert gap in shown["message"]
    assert gap in leaderboard(partly)
    assert gap in update_model_card("", partly)
