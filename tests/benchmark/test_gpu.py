"""The GPU benchmark runs on a CPU with tiny models, and every section of it tells something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark import gpu
from benchmark.gpu import SECTIONS, main
from benchmark.measuring import Subject
from benchmark.random_weights import tokenizer


@pytest.mark.slow
def test_tiny_models_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = main(["--tiny", "--device=cpu", "--shapes", "sd14", f"--json={tmp_path / 'gpu.json'}"])
    assert not [row for row in report.rows if row.title in ("FAILED", "skipped")]
    assert {row.section for row in report.rows} >= {*SECTIONS, "machine", "literal", "goal"} - {"host"}
    rows = {row.title.removeprefix("sd14 (tiny) float32 "): row.values for row in report.rows}
    assert [rows[f"8 together{again}, against one by one"]["same_score"] for again in ("", ", again")] == [2, 2]
    assert rows["8 prompts together"] | {"ended": 2, "errors": 0, "batches_of_at_end": 1} == rows["8 prompts together"]
    assert rows["beside others"]["same_error"]
    assert rows["at the end of the batch"]["same_gradient"]
    assert "skipped" not in capsys.readouterr().out
    assert len(json.loads((tmp_path / "gpu.json").read_text())) == len(report.rows)


def test_a_section_that_fails_is_told_and_those_that_need_it_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(subject: Subject) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def draw(subject: Subject) -> None:
        subject.each["image"] = 1.0

    sections = {"network": (fail, 0, bool), "images": (draw, 0, bool), "an hour": SECTIONS["an hour"]}
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    monkeypatch.setattr(gpu, "_literal", lambda *_: None)
    report = main(["--tiny", "--device=cpu", "--shapes", "sd14", f"--json={tmp_path / 'gpu.json'}"])
    assert [row.section for row in report.rows if row.title == "FAILED"] == ["network"]
    assert "an hour" not in {row.section for row in report.rows}


def test_time_that_is_up_is_told(tmp_path: Path) -> None:
    report = main(["--tiny", "--device=cpu", "--minutes=0", f"--json={tmp_path / 'gpu.json'}"])
    assert {row.title for row in report.rows[1:]} == {"skipped"}


def test_random_vocabulary_has_the_size_of_clips() -> None:
    tokens = tokenizer()
    assert len(tokens) == 49408
    assert tokens.decode(tokens("a cab on a bed 0", add_special_tokens=False).input_ids).strip() == "a cab on a bed 0"
