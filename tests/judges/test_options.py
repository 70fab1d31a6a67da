"""What judges may be asked: options that can be meant, and the base for those that judge with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_unlearndiff.core.concept import JudgeConfig
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.core.info import JudgeInfo
from pytest_unlearndiff.core.judge_options import on_base, parts_of, problems
from pytest_unlearndiff.core.registry import Registry

ITSELF = {"concept": "church", "alternatives": ["dog", "cat"]}


@pytest.mark.parametrize("stages", [[[4, 1]], [[4, 3], [16, 1]]])
def test_stages(stages: list[list[int]]) -> None:
    assert list(problems("diffusion-classifier", {**ITSELF, "stages": stages})) == []


@pytest.mark.parametrize("stages", [[], "4", [[4]], [[4, 0]], [[4, 3]], [[16, 3], [4, 1]], [[4, 1], [16, 1]]])
def test_wrong_stages(stages: object) -> None:
    ((place, said),) = problems("diffusion-classifier", {**ITSELF, "stages": stages})
    assert place == ("stages",)
    assert said.startswith("stages must be pairs of samples (rising) and prompts kept (falling to 1)")


def test_base_is_given_to_parts(tmp_path: Path) -> None:
    both = JudgeConfig("any-of", {"judges": [{"kind": "diffusion-classifier", **ITSELF}, {"kind": "nudenet"}]})
    itself, other = parts_of(on_base(both, tmp_path))
    assert itself.options["model"] == str(tmp_path)
    assert "model" not in other.options


def test_own_model_stays(tmp_path: Path) -> None:
    own = JudgeConfig("diffusion-classifier", {**ITSELF, "model": "mine"})
    assert on_base(own, tmp_path) == own == on_base(own, None)


def test_missing_base() -> None:
    with pytest.raises(JudgeError, match="judges with the un-erased model: give it with --unlearndiff-base"):
        on_base(JudgeConfig("diffusion-classifier", ITSELF), None)


def test_options_of_a_plugins_judge_may_be_called_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a judge that combines others has its ``judges`` read as judges."""
    added = Registry([JudgeInfo("panel", "panel:Panel", "1", required={"judges": list})])
    monkeypatch.setattr("pytest_unlearndiff.core.judge_options.registry", lambda: added)
    assert list(problems("panel", {"judges": ["Ann", "Bob"]})) == []
