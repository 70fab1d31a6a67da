"""The store's folder: made only when needed, one campaign a folder, one attacker at a time."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest
from builders import key

from pytest_unlearndiff.core.errors import StoreError
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.store.hashing import SETTLE_NS
from pytest_unlearndiff.store.journal import StoredOutcomes
from pytest_unlearndiff.store.store import Mode, Store


@pytest.mark.parametrize(
    ("mode", "reads", "writes"),
    [
        ("rw", True, True),
        ("ro", True, False),
        ("refresh", False, True),
        ("off", False, False),
        ("require", True, False),
    ],
)
def test_what_each_mode_does(mode: str, reads: bool, writes: bool) -> None:
    assert (Mode(mode).reads, Mode(mode).writes) == (reads, writes)


def test_every_mode_is_tried_above() -> None:
    assert {mode.value for mode in Mode} == {"rw", "ro", "refresh", "off", "require"}


@pytest.mark.parametrize("mode", Mode)
def test_looking_creates_nothing(tmp_path: Path, mode: Mode) -> None:
    store = Store(tmp_path / "store", mode)
    assert store.campaign("church", key()).outcomes() == StoredOutcomes({})
    assert list(tmp_path.iterdir()) == []


def test_the_first_campaign_marks_the_folder_and_writes_down_its_key(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entry = store.campaign("church", key())
    store.create(entry, key())
    assert json.loads((entry.folder / "key.json").read_text()) == key().to_dict()
    assert (store.root / ".gitignore").read_text() == "*\n"
    # The signature by which backup tools know a cache (bford.info/cachedir).
    assert (store.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_preparing_again_keeps_what_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entry = store.campaign("church", key())
    store.create(entry, key())
    entry.journal.append(Outcome("aaaa", Status.HIT_UNDER_ATTACK))
    (store.root / ".gitignore").write_text("# mine\n")
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    store.create(entry, key())
    assert {path: path.read_bytes() for path in before} == before


def test_another_store_object_finds_the_same_campaign(tmp_path: Path) -> None:
    done = Outcome("aaaa", Status.HIT_UNDER_ATTACK)
    Store(tmp_path).campaign("church", key()).journal.append(done)
    assert Store(tmp_path, Mode.RO).campaign("church", key()).outcomes() == StoredOutcomes({"aaaa": done})
    assert Store(tmp_path, Mode.RO).campaign("church", key(seed=1)).outcomes() == StoredOutcomes({})


@pytest.mark.parametrize(
    "name", ["church", "Van Gogh", "../../etc", "/etc/passwd", "a\\b", "..", "", "教会", "x\0y\n", "long" * 200]
)
def test_any_name_stays_inside_the_store(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    entry = store.campaign(name, key())
    assert entry.folder.parent == tmp_path / "campaigns"
    assert entry.name.endswith(key().digest)
    store.create(entry, key())
    assert entry.folder.is_dir()


def test_a_folder_that_cannot_be_made_is_said_with_both_ways_out(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file stands in the way")
    store = Store(tmp_path / "store")
    with pytest.raises(StoreError, match=r"store cannot be written.*--unlearndiff-cache-dir.*--unlearndiff-cache=off"):
        store.create(store.campaign("church", key()), key())


def test_the_store_remembers_fingerprints_for_the_next_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    monkeypatch.setattr("time.time_ns", lambda: weights.stat().st_ctime_ns + 2 * SETTLE_NS)
    store = Store(tmp_path / "store")
    known = store.fingerprints.of(weights)
    store.create(store.campaign("church", key()), key())
    monkeypatch.setattr("hashlib.file_digest", None)  # reading again would fail
    assert Store(tmp_path / "store").fingerprints.of(weights) == known


def test_without_a_store_no_fingerprints_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, Mode.OFF)
    (tmp_path / "weights.pt").write_bytes(b"weights")
    store.fingerprints.of(tmp_path / "weights.pt")
    store.fingerprints.save()
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize(("seed", "waits"), [(0, True), (1, False)])
def test_only_the_same_campaign_waits_for_the_lock(tmp_path: Path, seed: int, waits: bool) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    mine, other = first.campaign("church", key()), second.campaign("church", key(seed=seed))
    first.create(mine, key())
    second.create(other, key(seed=seed))
    entered = threading.Event()

    def attack() -> None:
        with second.lock(other):
            entered.set()

    thread = threading.Thread(target=attack)
    with first.lock(mine):
        thread.start()
        assert entered.wait(0.3 if waits else 10) is not waits
    thread.join(10)
    assert entered.is_set()


def test_what_was_assumed_is_noted_for_sessions_that_load_nothing(tmp_path: Path) -> None:
    entry = Store(tmp_path).campaign("church", key())
    assert entry.metadata == {}
    entry.write_metadata({"format": "diffusers"})  # no folder, so nothing is written, and nothing is raised
    assert entry.metadata == {}
    Store(tmp_path).create(entry, key())
    entry.write_metadata({"format": "diffusers", "changes": ["UNet"]})
    assert entry.metadata == {"format": "diffusers", "changes": ["UNet"]}
    for text in ("[1]", "{", "\xff"):
        (entry.folder / "facts.json").write_text(text, encoding="latin-1")
        assert entry.metadata == {}


def test_a_campaign_of_which_nothing_is_kept_was_never_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = store.campaign("church", key())
    assert entry.last_written == 0
    store.create(entry, key())
    entry.append(Outcome("a", Status.RESISTED))
    assert entry.last_written > 0


def test_a_full_disk_is_said_with_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    entry = store.campaign("church", key())
    store.create(entry, key())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot be written: .*No space left on device.*--unlearndiff-cache"):
        entry.append(Outcome("a", Status.RESISTED))
