"""Downloads of models: complete, renewed when the source changes, and redacted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from webs import Web

from pytest_unlearndiff.core.errors import ModelError, redact_url, wrap_access_errors
from pytest_unlearndiff.runs.model_spec import ModelSpec
from pytest_unlearndiff.sources.download import download, source_url
from pytest_unlearndiff.store.key import Fingerprints


@pytest.fixture(autouse=True)
def _own_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """A bucket in fsspec's memory with a pipeline and a checkpoint."""
    files = fsspec.filesystem("memory")
    for name in ("model_index.json", "unet/config.json", "unet/weights.safetensors"):
        files.pipe_file(f"/bucket/erased/{name}", f"content of {name}".encode())
    files.pipe_file("/bucket/esd.pt", b"weights")
    yield files
    files.rm("/bucket", recursive=True)


def test_folder_is_complete_and_named(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    found = download("memory://bucket/erased/")
    assert found.name == "erased"
    memory.get("/bucket/erased", str(tmp_path / "plain"), recursive=True)
    there = Fingerprints()
    assert there.of(found) == there.of(tmp_path / "plain")
    assert sorted(path.name for path in found.rglob("*") if path.is_file()) == [
        "config.json",
        "model_index.json",
        "weights.safetensors",
    ]


def test_changed_source_is_downloaded_again(memory: fsspec.AbstractFileSystem) -> None:
    said: list[str] = []
    first = download("memory://bucket/esd.pt", said.append)
    assert download("memory://bucket/esd.pt", said.append) == first
    assert said == ["fetching memory://bucket/esd.pt (0 MiB)"]
    memory.pipe_file("/bucket/esd.pt", b"retrain")  # of the same size
    second = download("memory://bucket/esd.pt", said.append)
    assert second.read_bytes() == b"retrain"
    assert first.read_bytes() == b"weights", "another session may still read it"
    assert len(said) == 2


def test_source_url(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    found = download("memory://bucket/erased")
    assert source_url(found) == "memory://bucket/erased"
    assert ModelSpec(found).label == "memory://bucket/erased"
    assert ModelSpec(base=found).label == "the base memory://bucket/erased"
    (found.parent / ".url").unlink()
    assert source_url(found) == str(found)
    (tmp_path / ".url").write_text("s3://the/official/model")
    assert source_url(tmp_path / "model") == str(tmp_path / "model")
    assert ModelSpec(tmp_path / "esd.pt").label == str(tmp_path / "esd.pt")


def test_empty_folder_is_missing(memory: fsspec.AbstractFileSystem) -> None:
    memory.makedirs("/bucket/empty")
    with pytest.raises(ModelError, match="there is nothing at memory://bucket/empty"):
        download("memory://bucket/empty")


def test_signature_is_sent_and_redacted(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "esd.pt").write_bytes(b"weights")
    with Web(tmp_path / "web", tag='"1"') as web:
        found = download(f"{web.url}/esd.pt?signature=secret", said.append)
        assert download(f"{web.url}/esd.pt?signature=another", said.append) == found
    assert any("signature=secret" in request for request in web.asked)
    assert found.name == "esd.pt"
    assert source_url(found) == f"{web.url}/esd.pt"
    assert said == [f"fetching {web.url}/esd.pt (0 MiB)"]


def test_untagged_queries_are_two_files(tmp_path: Path) -> None:
    path = tmp_path / "download"
    found = []
    with Web(tmp_path) as web:
        for name in ("first", "other"):
            path.write_text(name)
            os.utime(path, (0, 0))
            found.append(download(f"{web.url}/download?model={name}").read_text())
    assert found == ["first", "other"]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://me:secret@host/a.pt?signature=secret", "https://host/a.pt"),
        ("zip://m.pt::https://me:secret@host/a.zip", "zip://m.pt::https://host/a.zip"),
        ("s3://bucket/a.pt?versionId=1", "s3://bucket/a.pt"),
        ("github://me:models@main/a.pt", "github://me:models@main/a.pt"),
        ("file:///models/a.pt", "file:///models/a.pt"),
        ("memory://a.pt", "memory://a.pt"),
        ("http://[::1]:9/a.pt", "http://[::1]:9/a.pt"),
        ("simplecache::https://me@host/a.pt", "simplecache::https://host/a.pt"),
        ("s3://key:secret@bucket/a.pt", "s3://bucket/a.pt"),
        ("abfs://container@account.dfs.core.windows.net/a.pt", "abfs://container@account.dfs.core.windows.net/a.pt"),
        ("https://me:pa'ss@host/a.pt", "https://host/a.pt"),
        ("https://host/a?name=UTF-8''a b.pt&Signature=secret", "https://host/a"),
    ],
)
def test_redact_url(url: str, place: str) -> None:
    assert redact_url(url) == place


@pytest.mark.parametrize(
    "told",
    [
        "403 at {url}",
        "403, url=URL('https://host/a.pt?name=UTF-8''a b.pt&Signature=secret/and+more')",
        "no zip://a.pt::https://me:secret@host/b, nor 'https://host/a.pt?Signature=secret%2Fand%2Bmore'",
        "of a signature secret/and+more",
        "long " * 55 + "{url}",
    ],
)
def test_errors_redact_every_spelling(told: str) -> None:
    url = "https://me:secret@host/a.pt?name=UTF-8%27%27a%20b.pt&Signature=secret%2Fand%2Bmore"
    with (
        pytest.raises(ModelError, match="RuntimeError: ") as error,
        wrap_access_errors(url, "read", "Try.", ModelError),
    ):
        raise RuntimeError(told.format(url=url))
    assert "secret" not in str(error.value)


def test_errors_of_servers_redact_credentials(tmp_path: Path) -> None:
    with Web(tmp_path) as web:
        gone = f"{web.url.replace('//', '//me:secret@')}/gone.pt?signature=secret"
        with pytest.raises(ModelError, match="there is nothing at http") as missing:
            download(gone)
    refused = r"/gone\.pt cannot be fetched: ClientConnectorError: .*connect.*Try again"
    with pytest.raises(ModelError, match=refused) as down:
        download(gone)
    with Web(tmp_path, silent=("Last-Modified",)) as web:
        (tmp_path / "esd.pt").write_text("weights")
        untagged = r"/esd\.pt has neither tag nor date, so nobody can tell .*: download it"
        with pytest.raises(ModelError, match=untagged) as silent:
            download(f"{web.url}/esd.pt?signature=secret")
    assert not any("secret" in str(error.value) for error in (missing, down, silent))


def test_local_file_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "esd.pt"
    path.write_bytes(b"weights")
    assert download(path.as_uri()) == path
    with pytest.raises(ModelError, match=r"there is nothing at file://.*gone\.pt"):
        download((tmp_path / "gone.pt").as_uri())


def test_unchanged_file_is_not_downloaded(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "esd.pt").write_bytes(b"weights")
    os.utime(tmp_path / "web" / "esd.pt", (0, 0))
    with Web(tmp_path / "web") as web:
        found = download(f"{web.url}/esd.pt")
        assert found.read_bytes() == b"weights"
        before = len([request for request in web.asked if request.startswith("GET")])
        assert download(f"{web.url}/esd.pt") == found
        assert len([request for request in web.asked if request.startswith("GET")]) == before
        with pytest.raises(ModelError, match="there is nothing at http"):
            download(f"{web.url}/gone.pt")


def test_young_file_is_downloaded_again(tmp_path: Path) -> None:
    """As another one of the same size that took its place within the second would be."""
    (tmp_path / "web").mkdir()
    path, now = tmp_path / "web" / "esd.pt", time.time()
    with Web(tmp_path / "web") as web:
        for age, contents in ((0, (b"weights", b"WEIGHTS")), (60, (b"weights", b"weights"))):
            for content in contents:
                path.write_bytes(content)
                os.utime(path, (now - age, now - age))
                assert download(f"{web.url}/esd.pt").read_bytes() == content
    assert len([request for request in web.asked if request.startswith("GET")]) == 3


def test_file_changed_during_download_is_refused(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(memory).get

    def meanwhile(files: fsspec.AbstractFileSystem, *arguments: object, **options: object) -> None:
        real(files, *arguments, **options)
        files.pipe_file("/bucket/erased/unet/config.json", b"other")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "get", meanwhile)
        with pytest.raises(ModelError, match="memory://bucket/erased changed as it was fetched: try again"):
            download("memory://bucket/erased")
    assert (download("memory://bucket/erased") / "unet" / "config.json").read_bytes() == b"other"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://bucket/gone", "there is nothing at memory://bucket/gone"),
        ("nowhere://bucket/x", "nowhere://bucket/x cannot be fetched: ValueError: Protocol not known: nowhere"),
        ("http://[::1]:9/x.pt", r"^there is nothing at http://\[::1\]:9/x\.pt$"),
        ("s3://bucket/x", r"s3://bucket/x.* s3fs"),
    ],
)
def test_unavailable_url_is_one_error(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ModelError, match=reason):
        download(url)


def test_names_leading_out_are_refused(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {"type": "file", "size": 1, "name": ""}
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "find", lambda *_, **__: {"/bucket/erased/../../../../x": size})
        with pytest.raises(ModelError, match="'x' is no name inside a folder"):
            download("memory://bucket/erased")
    assert not list((tmp_path / "tmp").rglob("x"))


def test_interrupted_download_leaves_no_copy(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ConnectionError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "get", breaks)
        with pytest.raises(ModelError, match=r"cannot be fetched: ConnectionError: reset by peer\. Try again"):
            download("memory://bucket/erased")
    assert (download("memory://bucket/erased") / "model_index.json").is_file()
