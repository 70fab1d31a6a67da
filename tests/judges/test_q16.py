"""Q16's published pickle becomes an array, and nothing that it names is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.judges.q16 import _vectors

VECTORS = np.arange(8, dtype=np.float16).reshape(2, 4) + 1


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [3, 4])
def test_converted_vectors_are_read(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "prompts.p").write_bytes(pickle.dumps(VECTORS, protocol))
    assert main(["q16", str(tmp_path / "prompts.p"), str(tmp_path / "q16.npz")]) == 0
    expected = VECTORS.astype(np.float32) / np.linalg.norm(VECTORS.astype(np.float32), axis=1, keepdims=True)
    assert _vectors(tmp_path / "q16.npz").numpy() == pytest.approx(expected)


def test_anything_else_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "q16.npz"
    harmful = pickle.dumps(Harmful(tmp_path / "made"))
    wrong = (
        harmful,
        pickle.dumps([1, 2]),
        pickle.dumps(VECTORS[:1]),
        pickle.dumps(VECTORS.astype(object)),
        b"\x80",
        b"",
    )
    for content in wrong:
        (tmp_path / "prompts.p").write_bytes(content)
        assert main(["q16", str(tmp_path / "prompts.p"), str(target)]) == 1
        assert "prompts.p cannot be converted to" in capsys.readouterr().err
    assert not target.exists()
    assert not (tmp_path / "made").exists()
