"""A shared store: only checked outcomes travel, nothing there is lost, and a place out of reach is one clear error."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from pytest_unlearndiff.core.errors import StoreError
from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.store.journal import Distrusted, Known, Line
from pytest_unlearndiff.store.remote import Remote
from pytest_unlearndiff.store.store import Mode, Store

from .builders import key, outcome

NAME = f"church-{key().digest}"


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid.uuid4()}" if request.param == "memory" else f"file://{tmp_path / 'shared'}"


def test_outcomes_travel_between_two_stores(url: str, tmp_path: Path) -> None:
    stores = [Store(tmp_path / name, Mode.RW, Remote(url)) for name in ("laptop", "cluster")]
    entries = [store.entry("church", key()) for store in stores]
    for store, entry, prompt in zip(stores, entries, "ab", strict=True):
        store.keep(entry, outcome(prompt, Status.BROKEN))
        store.share(entry)
    for store, entry in zip(stores, entries, strict=True):
        assert set(store.known(entry)[0]) == {"a", "b"}
    assert set(entries[0].known()[0]) == {"a"}
    assert Remote(url).campaigns() == [NAME]


def lines(prompts: str) -> list[Line]:
    """One resisted prompt a letter."""
    return [Line(outcome(prompt, Status.RESISTED)) for prompt in prompts]


def cut_short(store: Store, error: BaseException) -> None:
    """A campaign that keeps one outcome, which is too soon to be shared, and then ends with this."""
    entry = store.entry("church", key())
    with store.sharing(entry):
        store.keep(entry, outcome("a", Status.BROKEN))
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError()], ids=repr)
def test_what_was_kept_is_shared_when_a_campaign_is_cut_short(url: str, tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        cut_short(Store(tmp_path, Mode.RW, Remote(url)), error)
    assert set(Remote(url).known(NAME)[0]) == {"a"}


def test_a_place_out_of_reach_never_hides_what_cut_a_campaign_short(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cut_short(Store(tmp_path, Mode.RW, Remote("nowhere://bucket")), KeyboardInterrupt())


def test_adding_twice_adds_nothing(url: str) -> None:
    remote = Remote(url)
    assert remote.add(NAME, lines("a")) == 1
    assert remote.add(NAME, lines("ab")) == 1
    assert remote.add(NAME, lines("b")) == 0
    assert list(remote.known(NAME)[0]) == ["a", "b"]


def test_a_torn_or_hostile_line_there_is_not_believed_and_stays_in_nobodys_way(url: str) -> None:
    remote = Remote(url)
    remote.add(NAME, lines("a"))
    files, root = fsspec.core.url_to_fs(url)
    path = f"{root}/campaigns/{NAME}/journal.jsonl"
    files.pipe_file(path, files.cat_file(path) + b'{"schema": 2, "outcome": {"prompt": "x", "status": "resisted"}')
    assert remote.add(NAME, lines("b")) == 1
    assert remote.known(NAME).outcomes.keys() == {"a", "b"}
    assert remote.known(NAME).distrusted == Distrusted(damaged=1)


def test_an_empty_place_knows_nothing(url: str) -> None:
    assert Remote(url).known(NAME) == Known({})
    assert Remote(url).campaigns() == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [("nowhere://bucket", "nowhere"), ("file:///dev/null/shared", "cannot be read")],
)
def test_a_place_out_of_reach_is_named(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason) as caught:
        Remote(url).add(NAME, lines("a"))
    assert url in str(caught.value)


def test_a_missing_package_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(StoreError, match="pip install fsspec"):
        Remote("s3://bucket").known(NAME)


def test_a_hostile_campaign_name_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not the name of a campaign"):
        Store(tmp_path).named("../../etc-0123456789abcdef")


def test_the_shared_store_learns_of_outcomes_while_a_campaign_runs(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(url)
    store = Store(tmp_path / "here", remote=remote)
    entry = store.entry("church", key())
    store.prepare(entry, key())
    store.keep(entry, outcome("a", Status.RESISTED))
    assert remote.known(entry.folder.name)[0] == {}, "a moment ago it was told last"
    monkeypatch.setattr("pytest_unlearndiff.store.remote._EVERY_SECONDS", -1.0)
    store.keep(entry, outcome("b", Status.RESISTED))
    assert set(remote.known(entry.folder.name)[0]) == {"a", "b"}
