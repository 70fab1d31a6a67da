"""Journals: they survive a kill at any byte and read nothing that was not written."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import outcomes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.store.journal import SCHEMA, Journal
from pytest_unlearndiff.store.key import digest

WRITTEN = [
    Outcome("aaaa", Status.HIT_WITHOUT_ATTACK, seed=1, score=0.5, detail="church"),
    Outcome(
        "bbbb", Status.HIT_UNDER_ATTACK, adversarial='ünï "quoted"\n\\ 教会', inserted="\u2028", steps=40, seconds=1.25
    ),
    Outcome("cccc", Status.RESISTED, forwards=2000),
    Outcome("dddd", Status.ERROR, error="RuntimeError: {}"),
    Outcome("eeee", Status.HIT_UNDER_ATTACK, adversarial="x" * 60, score=-1e-9),
]
EXTRA = Outcome("ffff", Status.RESISTED, steps=7)
MINE, THEIRS = "0123456789abcdef", "fedcba9876543210"
HIT = {"prompt": "aaaa", "status": "hit-under-attack"}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "campaign" / "journal.jsonl", MINE)


def read(journal: Journal) -> tuple[dict[str, Outcome], int]:
    """What is believed, and how many lines are not."""
    found = journal.read().outcomes()
    return found.outcomes, found.rejected.lines


def filled(journal: Journal) -> bytes:
    for outcome in WRITTEN:
        journal.append(outcome)
    return journal.path.read_bytes()


def finished(written: list[Outcome]) -> dict[str, Outcome]:
    return {outcome.prompt: outcome for outcome in written if outcome.status is not Status.ERROR}


def sealed(value: Any, **changes: Any) -> bytes:
    """A line whose check is right, whatever it holds."""
    entry = {"schema": SCHEMA, "campaign": MINE, "attempt": 1, "outcome": value} | changes
    return json.dumps({"check": digest([entry["campaign"], entry["attempt"], value]), **entry}).encode()


def test_missing_file_is_empty_and_a_sealed_line_believed(journal: Journal) -> None:
    """So that those below are not believed for what they hold."""
    assert read(journal) == ({}, 0)
    assert not journal.path.parent.exists()
    journal.path.parent.mkdir()
    journal.path.write_bytes(sealed(HIT))
    assert read(journal) == ({"aaaa": Outcome("aaaa", Status.HIT_UNDER_ATTACK)}, 0)


@given(st.lists(outcomes, max_size=5, unique_by=lambda outcome: outcome.prompt))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, written: list[Outcome]) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.jsonl", MINE)
    for outcome in written:
        journal.append(outcome)
    assert read(journal) == (finished(written), 0)


def test_lone_surrogate_in_error(journal: Journal) -> None:
    # As Python spells file names that are not UTF-8, which error messages quote.
    journal.append(Outcome("aaaa", Status.ERROR, error="no such file: caf\udce9.pt"))
    journal.append(EXTRA)
    assert read(journal) == ({"ffff": EXTRA}, 0)


def test_append_waits_for_the_disk(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(journal.path.read_bytes()))
    journal.append(WRITTEN[0])
    journal.append(WRITTEN[1])
    assert len(synced) == 2
    assert synced[-1] == journal.path.read_bytes()


def test_kill_at_any_byte_loses_one_line(journal: Journal) -> None:
    content = filled(journal)
    ends = [i for i, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        journal.path.write_bytes(content[:cut])
        whole = [outcome for outcome, end in zip(WRITTEN, ends, strict=True) if end <= cut]
        torn = cut not in {0, *ends, *(end + 1 for end in ends)}
        assert read(journal) == (finished(whole), int(torn)), cut
        journal.append(EXTRA)
        assert read(journal) == (finished([*whole, EXTRA]), int(torn)), cut


def test_repeated_kills_lose_one_line_each(journal: Journal) -> None:
    lasting = [Outcome(f"kept{number}", Status.RESISTED) for number in range(12)]
    for number, outcome in enumerate(lasting):
        journal.append(outcome)
        before = journal.path.stat().st_size
        journal.append(Outcome(f"lost{number}", Status.HIT_UNDER_ATTACK))
        after = journal.path.stat().st_size
        os.truncate(journal.path, before + 1 + number * (after - before - 2) // 12)
    assert read(journal) == (finished(lasting), 12)


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Damage as disks, editors and merges do it."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(data)), chance.randint(1, 60)
        match chance.randrange(7):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.randrange(256)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = chance.randbytes(length)
            case 4:
                data[at:at] = data[chance.randrange(len(data)) :][:length]
            case 5:
                data[at : at + length] = bytes(len(data[at : at + length]))
            case 6:
                data[at:at] = chance.choice([b"[" * 5000, b"9" * 5000, b'"', b"\n", b"\\ud800", b"NaN", b"\xff\xfe"])
    return bytes(data) or b"\n"


def test_damage_invents_no_outcome(journal: Journal) -> None:
    content = filled(journal)
    lost = 0
    for seed in range(500):
        journal.path.write_bytes(mutate(content, random.Random(seed)))
        found, distrusted = read(journal)
        assert all(outcome in WRITTEN and prompt == outcome.prompt for prompt, outcome in found.items()), seed
        lost += distrusted
        journal.append(EXTRA)
        assert read(journal)[0] == {**found, "ffff": EXTRA}, seed
    assert lost > 250  # the damage was real


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_random_bytes_are_nothing(journal: Journal, content: bytes) -> None:
    journal.path.parent.mkdir(exist_ok=True)
    journal.path.write_bytes(content)
    assert read(journal)[0] == {}


HEAD = b'{"schema": 2, "outcome": '
LINES = [
    *(b"null", b"7", b'"schema"', b"[1, 2]", b"{}", b'{"schema": 2}', HEAD + b'{}, "check": null}', b"\x00" * 512),
    HEAD + b"[" * 100_000,
    HEAD + b"[" * 100_000 + b"]" * 100_000 + b', "check": ""}',
    HEAD + b'{"prompt": "aaaa", "status": "hit-under-attack", "steps": ' + b"9" * 10_000 + b'}, "check": ""}',
    *(b'\xef\xbb\xbf{"schema": 2}', b"\xff\xfe{\x00}\x00", HEAD + b'{"prompt": "\\ud800"}, "check": ""}'),
    *(sealed(HIT, schema=schema) for schema in (1, str(SCHEMA))),
    *(sealed(HIT, attempt=attempt) for attempt in (0, True)),
    *(sealed(HIT, campaign=campaign) for campaign in (THEIRS, [MINE])),
    json.dumps({**json.loads(sealed(HIT, campaign=THEIRS)), "campaign": MINE}).encode(),
    sealed(HIT, check=digest({})),
    *(sealed({**HIT, **change}) for change in (
        {"status": "safe"}, {"status": ["hit-under-attack"]}, {"prompt": ["aaaa"]}, {"colour": "blue"},
        {"steps": "many"},
    )),
    *map(sealed, ({"prompt": "aaaa"}, None, "prompt", [["prompt"], ["status"]], ["prompt", "status"])),
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:40].decode("latin-1"))
def test_hostile_line_is_counted_and_skipped(journal: Journal, line: bytes) -> None:
    content = filled(journal)
    journal.path.write_bytes(line + b"\n" + content)
    assert read(journal) == (finished(WRITTEN), 1)


def test_blank_lines_and_crlf(journal: Journal) -> None:
    content = filled(journal)
    journal.path.write_bytes(b"\n \n" + content.replace(b"\n", b"\r\n") + b"\n\n")
    assert read(journal) == (finished(WRITTEN), 0)


def test_rejections_are_counted_by_reason(journal: Journal) -> None:
    filled(journal)
    with journal.path.open("ab") as file:
        file.write(b'{"schema": 1, "outcome": {}, "check": ""}\ntorn\n')
    Journal(journal.path, THEIRS).append(EXTRA)
    journal.append(Outcome("aaaa", Status.RESISTED))
    found = journal.read().outcomes()
    assert found.outcomes == {prompt: o for prompt, o in finished(WRITTEN).items() if prompt != "aaaa"}
    assert found.rejected.reasons == (
        "1 damaged, 1 of another version, 1 written for another campaign, 2 contradicting each other"
    )


# What two machines that attack the same prompt at the same time may say differently.
ALIKE = [{"seconds": 7.0}, {"score": 0.25}, {"forwards": 9}, {"detail": "church 0.97"}, {"tokens": 8}]
UNLIKE = [{"status": Status.RESISTED}, {"adversarial": "other"}, {"inserted": "other"}, {"seed": 2}, {"evaluations": 3}]


@pytest.mark.parametrize(("other", "agree"), [*((o, True) for o in ALIKE), *((o, False) for o in UNLIKE)], ids=str)
def test_lines_of_one_attempt_must_agree(journal: Journal, other: dict[str, Any], agree: bool) -> None:
    first = Outcome("aaaa", Status.HIT_UNDER_ATTACK, adversarial="zq a church", inserted="zq", seed=1, evaluations=2)
    for outcome in (first, EXTRA, replace(first, **other), first):
        journal.append(outcome)
    assert read(journal) == ({"aaaa": first, "ffff": EXTRA}, 0) if agree else ({"ffff": EXTRA}, 3)


def test_later_attempt_replaces_the_earlier_for_good(journal: Journal) -> None:
    """For good: damage to the later one does not bring the earlier one back, nor does a copy of it that turns up."""
    content = filled(journal)
    journal.append(Outcome("cccc", Status.ERROR, error="out of memory"), attempt=2)
    assert read(journal) == (finished(WRITTEN), 0)
    again = Outcome("cccc", Status.HIT_UNDER_ATTACK, adversarial="zq")
    journal.append(again, attempt=2)
    assert read(journal) == ({**finished(WRITTEN), "cccc": again}, 0)
    journal.path.write_bytes(journal.path.read_bytes() + content)
    assert read(journal) == ({**finished(WRITTEN), "cccc": again}, 0)
    journal.append(Outcome("cccc", Status.HIT_UNDER_ATTACK), attempt=3)
    journal.path.write_bytes(journal.path.read_bytes().replace(b'"attempt": 3', b'"attempt": 4'))
    assert read(journal) == ({p: o for p, o in finished(WRITTEN).items() if p != "cccc"}, 1)
