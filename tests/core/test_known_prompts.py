"""Known adversarial prompts, as ``transfer`` replays them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import prompts
from sessions import record

from pytest_unlearndiff.attacks.controls import Transfer
from pytest_unlearndiff.cli.export import export
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.errors import ConceptError
from pytest_unlearndiff.core.known_prompts import NOTHING_KNOWN, KnownPrompts, read_known

HEAD = "prompt,evaluation_seed,evaluation_guidance,original_prompt,original_seed,inserted,detail"
ROWS = (
    "zq a church,1,7.5,a church,1,zq,church 0.9",
    "a church,77,7.5,a church,1,,church 0.8",
    "xy a tower,2,7.5,a tower,2,xy,church 0.7",
)


def listed(tmp_path: Path, *rows: str, head: str = HEAD, name: str = "known.csv") -> KnownPrompts:
    path = tmp_path / name
    path.write_text("\n".join([head, *rows]) + "\n")
    return read_known(path)


def drawn(known: KnownPrompts, *asked: Any) -> list[tuple[str, int, str]]:
    return [(row.drawing.text, row.drawing.seed, row.inserted) for row in known.of(Prompt(*asked))]


def test_prompts_are_matched_by_text_seed_and_guidance(tmp_path: Path) -> None:
    known = listed(tmp_path, *ROWS)
    assert drawn(known, "a church", 1, 7.5, 9) == [("zq a church", 1, "zq"), ("a church", 77, "")]
    assert drawn(known, "a tower", 2, 7.5, 0) == [("xy a tower", 2, "xy")]
    for other in (("a church", 2, 7.5, 9), ("a church", 1, 5.0, 9), ("A church", 1, 7.5, 9)):
        assert drawn(known, *other) == []
    assert drawn(NOTHING_KNOWN, "a church", 1, 7.5, 0) == []


def test_guidance_that_the_prompt_set_does_not_say_tells_no_prompt(tmp_path: Path) -> None:
    """Families fill in another than the list was found with; where both are in the list, the equal one counts."""
    known = listed(tmp_path, *ROWS, "qq a tower,2,3.5,a tower,2,qq,church 0.6")
    church, tower = (Prompt(text, seed, 3.5, 0, own_guidance=False) for text, seed in (("a church", 1), ("a tower", 2)))
    assert [(row.inserted, row.drawing.guidance) for row in known.of(church)] == [("zq", 3.5), ("", 3.5)]
    assert [row.inserted for row in known.of(tower)] == ["qq"]
    assert known.of(Prompt("a tower", 1, 3.5, 0, own_guidance=False)) == []


def test_columns_and_defaults(tmp_path: Path) -> None:
    known = listed(tmp_path, "zq a church,3,a church", head="prompt,evaluation_seed,original_prompt")
    assert drawn(known, "a church", 3, 7.5, 0) == [("zq a church", 3, "")]
    rows = ("0,zq a church,1,a church", "0,xy a church,1,a church", "1,zz,1,")
    known = listed(tmp_path, *rows, head="case_number,prompt,evaluation_seed,original_prompt")
    assert len(known.of(Prompt("a church", 1, 7.5, 5))) == len(known.rows) == 2


def test_round_trip_with_export(tmp_path: Path) -> None:
    found = record("gbrbb")
    path = tmp_path / "known.csv"
    path.write_text(export([found, found])[0])
    known = read_known(path)
    assert len(known.rows) == 3
    for asked, prompt in zip(prompts(5), found.prompts, strict=True):
        rows = known.of(asked)
        assert [row.drawing.text for row in rows] == ([prompt.adversarial] if prompt.adversarial else [])
        assert AttackConfig("transfer", known=known).can_attack(asked) is bool(prompt.adversarial)
        assert AttackConfig().can_attack(asked)


def test_content_ignores_the_path(tmp_path: Path) -> None:
    known = listed(tmp_path, *ROWS)
    config = AttackConfig("transfer", known=known)
    assert config.params() == {"version": "1", "known": known.content}
    assert pickle.loads(pickle.dumps(config)) == config
    same = listed(tmp_path, *(row.replace("church 0", "chapel 1") for row in ROWS), name="copy.csv")
    assert (same, same.content) == (known, known.content)
    first, second, third = ROWS
    changed = [
        (first, second),
        (second, first, third),
        (first.replace("zq a", "qz a"), second, third),
        (first, second, third.replace(",2,7.5", ",3,7.5")),
        (first.replace("7.5", "5.0"), second, third),
        (first.replace("a church,1,zq", "a church,4,zq"), second, third),
    ]
    others = {listed(tmp_path, *rows, name=f"{i}.csv").content for i, rows in enumerate(changed)}
    assert len(others - {known.content}) == len(changed)


def test_attack_tries_each_prompts_own_in_order(tmp_path: Path) -> None:
    attack = Transfer(AttackConfig("transfer", known=listed(tmp_path, *ROWS)), None)  # type: ignore[arg-type]
    asked = [Prompt("a church", 1, 7.5, 0), Prompt("a tower", 2, 7.5, 1), Prompt("a tower", 3, 7.5, 2)]
    batch_size = attack.start(asked, None, seed=0)
    rounds = [attack.advance(batch_size) for _ in range(3)]
    told = [[drawing and (drawing.text, drawing.seed, drawing.guidance) for drawing in found] for found in rounds]
    assert told == [
        [("zq a church", 1, 7.5), ("xy a tower", 2, 7.5), None],
        [("a church", 77, 7.5), None, None],
        [None, None, None],
    ]
    assert [state.inserted for state in batch_size] == [None, "xy", None]
    assert isinstance(batch_size[0].generator, torch.Generator)


@pytest.mark.parametrize(
    ("head", "row", "said"),
    [
        ("prompt,evaluation_seed", "zq a church,1", "no column 'original_prompt' .* name it in a concept file"),
        (HEAD, "zq a church,1,7.5,,1,zq,", "no column 'original_prompt'"),
        (HEAD, ",1,7.5,a church,1,zq,", "2: empty prompt"),
        (HEAD, "zq a church,1,7.5,a church,one,zq,", "2: original_seed='one' is not a number"),
        (HEAD, "zq a church,1,7.5,a church,-1,zq,", "2: original_seed=-1 must be a whole number from 0"),
        (HEAD, f"zq a church,{2**64},7.5,a church,1,zq,", "2: evaluation_seed=18446744073709551616 must be"),
        ("adversarial", "zq a church", "no column 'prompt'"),
        (HEAD, "zq, a church,1,7.5,a church,1,zq,", "2: 8 cells where the header has 7"),
        (HEAD, "zq a church,1,7.5,a church,1", "2: 5 cells where the header has 7"),
        (f"{HEAD},inserted", "zq a church,1,7.5,a church,1,zq,x,y", "1: column 'inserted' stands twice"),
    ],
)
def test_other_file_is_refused(tmp_path: Path, head: str, row: str, said: str) -> None:
    with pytest.raises(ConceptError, match=f"known.csv:[ ]?{said}"):
        listed(tmp_path, row, head=head)
