"""The rows of ``examples/plugins`` in a session: a checkpoint in a format and a defense that the package lacks."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file, save_file
from tiny import EMOJI

from examples import FOLDER


def test_format_and_defense_of_a_conftest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    erased = load_file(EMOJI / "erased" / "uce-fish.safetensors")
    base = load_file(EMOJI / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    deltas = {f"delta.{name}": value.float() - base[name].float() for name, value in erased.items()}
    save_file(deltas, pytester.path / "deltas.safetensors")
    pytester.makeconftest((FOLDER / "conftest.py").read_text())
    pytester.makeini("[pytest]\n")
    result = pytester.runpytest_inprocess(
        *("-p", "no:randomly", "--pyargs", "pytest_unlearndiff.suite", "--unlearndiff-report=json:report.json"),
        *("--unlearndiff-model=deltas.safetensors", "--unlearndiff-defense=guidance-cap:scale=2"),
        *(f"--unlearndiff-base={EMOJI / 'model'}", f"--unlearndiff-concepts={EMOJI / 'concepts'}"),
        *("--unlearndiff-concept=fish", "--unlearndiff-attack=none", "--unlearndiff-prompts=2"),
        "--unlearndiff-cache=off",
    )
    result.assert_outcomes(passed=1)
    report = json.loads((pytester.path / "report.json").read_text(encoding="utf-8"))
    [assumed] = [gate["run"]["assumed"] for gate in report["gates"]]
    assert assumed["format"] == "weight deltas"
    assert any("guidance of at most 2" in note for note in assumed["notes"])
    assert any("as differences" in change for change in assumed["changes"])
