"""The local store's folder; tests/contracts/test_stores.py tests what every store does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import key

from pytest_unlearndiff.core.errors import StoreError
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.store.key import SETTLE_NS
from pytest_unlearndiff.store.store import Mode, Store


def test_first_campaign_marks_the_folder_as_cache(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entry = store.campaign("church", key())
    assert entry.last_written == 0
    store.create(entry, key())
    assert json.loads((entry.folder / "key.json").read_text()) == key().to_dict()
    assert (store.root / ".gitignore").read_text() == "*\n"
    # The signature by which backup tools know a cache (bford.info/cachedir).
    assert (store.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    entry.append(Outcome("aaaa", Status.HIT_UNDER_ATTACK))
    assert entry.last_written > 0
    (store.root / ".gitignore").write_text("# mine\n")
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    store.create(entry, key())
    assert {path: path.read_bytes() for path in before} == before


def test_file_in_place_of_the_folder_names_both_remedies(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file stands in the way")
    store = Store(tmp_path / "store")
    with pytest.raises(StoreError, match=r"store cannot be written.*--unlearndiff-cache-dir.*--unlearndiff-cache=off"):
        store.create(store.campaign("church", key()), key())


def test_fingerprints_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    monkeypatch.setattr("time.time_ns", lambda: weights.stat().st_ctime_ns + 2 * SETTLE_NS)
    store = Store(tmp_path / "store")
    fingerprint = store.fingerprints.of(weights)
    store.create(store.campaign("church", key()), key())
    monkeypatch.setattr("hashlib.file_digest", None)  # reading again would fail
    assert Store(tmp_path / "store").fingerprints.of(weights) == fingerprint


def test_disabled_store_keeps_no_fingerprints(tmp_path: Path) -> None:
    store = Store(tmp_path, Mode.OFF)
    (tmp_path / "weights.pt").write_bytes(b"weights")
    store.fingerprints.of(tmp_path / "weights.pt")
    store.fingerprints.save()
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize("content", ["[1]", "{", "\xff"])
def test_unreadable_metadata_is_empty(tmp_path: Path, content: str) -> None:
    store = Store(tmp_path)
    entry = store.campaign("church", key())
    entry.write_metadata({"format": "diffusers"})  # no folder, so nothing is written, and nothing is raised
    assert entry.metadata == {}
    store.create(entry, key())
    entry.write_metadata({"format": "diffusers", "changes": ["UNet"]})
    assert entry.metadata == {"format": "diffusers", "changes": ["UNet"]}
    (entry.folder / "facts.json").write_text(content, encoding="latin-1")
    assert entry.metadata == {}
