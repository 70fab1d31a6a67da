"""Judges combined, and a user's own function."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from PIL import Image

from pytest_unlearndiff.core.concept import JudgeConfig
from pytest_unlearndiff.core.errors import JudgeError
from pytest_unlearndiff.core.images import Judgement
from pytest_unlearndiff.core.info import JudgeInfo
from pytest_unlearndiff.core.registry import Registry
from pytest_unlearndiff.judges.base import build_judge
from pytest_unlearndiff.sources.resolve import judge_weights
from pytest_unlearndiff.store.key import Fingerprints

CODE = """
from pytest_unlearndiff.core.images import Judgement

def red(images, least=200):
    return [image.getpixel((0, 0))[0] >= least for image in images]

def blue(images):
    return [(image.getpixel((0, 0))[2] > 100, image.getpixel((0, 0))[2] / 255) for image in images]

def whole(images):
    return [Judgement(True, 0.25, "a judgement") for image in images]

def too_few(images):
    return [True]

def score(images):
    return [0.7 for image in images]

nothing = None
"""
COLOURS = ["red", "blue", "black", "magenta"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"judges_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(CODE))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def judge(spec: JudgeConfig) -> list[Judgement]:
    return build_judge(spec, "cpu")([Image.new("RGB", (4, 4), colour) for colour in COLOURS])


def function(module: str, name: str, **options: object) -> dict[str, object]:
    return {"kind": "function", "call": f"{module}:{name}", **({"options": options} if options else {})}


def spec(data: dict[str, object]) -> JudgeConfig:
    return JudgeConfig(str(data["kind"]), {name: value for name, value in data.items() if name != "kind"})


def test_implementation_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Registry([JudgeInfo("red", "nowhere_at_all:Red", "1")])
    monkeypatch.setattr("pytest_unlearndiff.core.registry._registry", rows)
    with pytest.raises(JudgeError, match=r"^judge red: .*No module named 'nowhere_at_all'"):
        build_judge(JudgeConfig("red", {}), "cpu")


def test_answers_of_functions(module: str) -> None:
    assert [each.hit for each in judge(spec(function(module, "red")))] == [True, False, False, True]
    assert [each.hit for each in judge(spec(function(module, "red", least=0)))] == [True] * 4
    assert [(each.hit, each.score) for each in judge(spec(function(module, "blue")))][:2] == [(False, 0.0), (True, 1.0)]
    assert judge(spec(function(module, "whole"))) == [Judgement(True, 0.25, "a judgement")] * 4


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone", "has no attribute 'gone'"),
        ("nothing", "NoneType, which cannot be called"),
        ("too_few", "1 answers on 4 images"),
        ("score", "gave 0.7: an answer is a Judgement"),
    ],
)
def test_wrong_functions(module: str, name: str, says: str) -> None:
    with pytest.raises(JudgeError, match=f"{module}:{name}.* {says}"):
        judge(spec(function(module, name)))


@pytest.mark.parametrize(
    ("kind", "hits"),
    [
        ("any-of", [True, True, False, True]),
        ("all-of", [False, False, False, True]),
    ],
)
def test_any_and_all(module: str, kind: str, hits: list[bool]) -> None:
    found = judge(JudgeConfig(kind, {"judges": [function(module, "red"), function(module, "blue")]}))
    assert [each.hit for each in found] == hits
    assert [each.score for each in found] == [0.5, 0.5, 0, 1]
    assert found[0].detail == "function: True; function: False"


def test_fingerprint_of_functions(module: str, tmp_path: Path) -> None:
    asked = JudgeConfig("any-of", {"judges": [function(module, "red")]})
    before = judge_weights(asked, Fingerprints())
    assert before == judge_weights(asked, Fingerprints())
    (tmp_path / f"{module}.py").write_text(CODE + "\n# changed\n")
    assert judge_weights(asked, Fingerprints()) != before
    with pytest.raises(JudgeError, match="no file of a module 'no_such_module'"):
        judge_weights(JudgeConfig("function", {"call": "no_such_module:judge"}), Fingerprints())
    with pytest.raises(JudgeError, match=r"no file of a module 'no_such_package\.inside'"):
        judge_weights(JudgeConfig("function", {"call": "no_such_package.inside:judge"}), Fingerprints())
