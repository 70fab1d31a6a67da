"""Where something stands in a YAML file, or what it should have stood in."""

from __future__ import annotations

from pathlib import Path

from pytest_unlearndiff.core.yaml_file import read_yaml


def test_what_is_not_there_is_told_by_what_it_should_stand_in(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("slots: 3\njudge:\n  kind: q16\n  clip: x\n")
    file = read_yaml(path)
    assert file.at("judge", "clip") == f"{path}:4"
    assert file.at("judge", "prompts", "from") == f"{path}:2"
    assert file.at("sampling", "steps") == f"{path}:1"
