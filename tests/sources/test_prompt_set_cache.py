"""Prompt sets at URLs: fetched, checked, and kept once their content is known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import huggingface_hub
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webs import Web

from pytest_unlearndiff.core.concept import Concept
from pytest_unlearndiff.core.concept_file import read_concept
from pytest_unlearndiff.core.errors import ConceptError
from pytest_unlearndiff.core.prompt_sets import locate_prompt_set
from pytest_unlearndiff.sources.download import PromptSetCache

CSV = b'case_number,prompt,evaluation_seed\n7,"a church, in snow",3\n8,another church,4\n'
SHA256 = hashlib.sha256(CSV).hexdigest()
JUDGE = "judge: {kind: image-classifier, model: org/name, label: 1}\n"


def concept(folder: Path, prompts: str) -> Path:
    path = folder / "church.yaml"
    path.write_text(f"prompts: {prompts}\n{JUDGE}")
    return path


def cases(found: Concept) -> list[int]:
    return [prompt.case for prompt in found.prompts]


@pytest.fixture
def memory() -> Iterator[str]:
    """A URL in fsspec's memory, with a prompt set behind it."""
    files = fsspec.filesystem("memory")
    files.pipe_file("/sets/church.csv", CSV)
    yield "memory://sets/church.csv"
    files.rm("/sets", recursive=True)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server on this machine, with a prompt set on it."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "church.csv").write_bytes(CSV)
    with Web(tmp_path / "web") as web:
        yield web


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache of our own with a snapshot of owner/sets, and no network."""
    cache = tmp_path / "hub"
    folder = cache / "datasets--owner--sets"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "church.csv").write_bytes(CSV)
    plain = huggingface_hub.hf_hub_download
    offline = partial(plain, cache_dir=cache, local_files_only=True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    return snapshot


def test_fsspec_url(tmp_path: Path, memory: str) -> None:
    (tmp_path / "local.csv").write_bytes(CSV)
    for url in (memory, (tmp_path / "local.csv").as_uri()):
        assert cases(read_concept(concept(tmp_path, url), fetch=PromptSetCache(None))) == [7, 8]
    pinned = concept(tmp_path, f"{{file: '{memory}', sha256: {SHA256}}}")
    read_concept(pinned, fetch=PromptSetCache(tmp_path / "store", keep=False))
    assert not (tmp_path / "store").exists()


def test_url_is_fetched_once_per_process(tmp_path: Path, web: Web) -> None:
    fetch = PromptSetCache(tmp_path / "store")
    for _ in range(2):
        assert cases(read_concept(concept(tmp_path, f"{web.url}/church.csv"), fetch=fetch)) == [7, 8]
    assert len(web.asked) == 1
    assert not (tmp_path / "store").exists()  # what is not known beforehand may change, and is not kept


def test_pinned_set_is_fetched_once_for_all(tmp_path: Path, web: Web) -> None:
    path = concept(tmp_path, f"{{file: '{web.url}/church.csv', sha256: {SHA256.upper()}, rows: 2}}")
    for _ in range(2):
        assert cases(read_concept(path, fetch=PromptSetCache(tmp_path / "store"))) == [7, 8]
    assert len(web.asked) == 1
    kept = tmp_path / "store" / "prompts" / f"{SHA256}.csv"
    assert kept.read_bytes() == CSV
    assert (tmp_path / "store" / ".gitignore").read_text() == "*\n"
    # A copy that somebody changed is none.
    kept.write_bytes(CSV + b"9,and more,5\n")
    assert cases(read_concept(path, fetch=PromptSetCache(tmp_path / "store"))) == [7, 8]
    assert len(web.asked) == 2


def test_pin_decides_what_a_url_holds(tmp_path: Path, web: Web) -> None:
    """Also after somebody without a pin has read what is there now."""
    path = concept(tmp_path, f"{{file: '{web.url}/church.csv', sha256: {SHA256}}}")
    read_concept(path, fetch=PromptSetCache(tmp_path / "store"))
    (tmp_path / "web" / "church.csv").write_bytes(b"prompt\na church\n")
    fetch = PromptSetCache(tmp_path / "store")
    assert fetch(f"{web.url}/church.csv") != CSV
    assert cases(read_concept(path, fetch=fetch)) == [7, 8]


def test_hub_file_is_read_with_a_bound(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_unlearndiff.sources.hub_datasets.CSV_BYTES", len(CSV) - 1)
    with pytest.raises(ConceptError, match="has more than"):
        PromptSetCache(None)("hf://datasets/owner/sets/church.csv")


def test_hub_data_set(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["README.md", "church.csv"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: files)
    file = "hf://datasets/owner/sets/church.csv"
    for url in (file, file.replace("owner/sets", f"owner/sets@{'0' * 40}"), "owner/sets"):
        assert cases(read_concept(concept(tmp_path, url), fetch=PromptSetCache(None))) == [7, 8]
    files.append("fish.csv")
    says = r"owner/sets has 2 files in CSV: name the file, as in hf://.*/church\.csv; there are church\.csv, fish\.csv"
    with pytest.raises(ConceptError, match=says):
        read_concept(concept(tmp_path, "owner/sets"), fetch=PromptSetCache(None))


CARD = """---
configs:
- config_name: objects
  data_files:
  - {split: test, path: lists/objects-*.csv}
- config_name: styles
  data_files: lists/styles.jsonl
- config_name: both
  data_files:
  - {split: test, path: lists/objects-*.csv}
  - {split: train, path: lists/styles.jsonl}
---
# Prompt sets of our own
"""


@pytest.mark.parametrize(
    ("chosen", "files", "reason"),
    [
        ("config: objects, split: test", ["README.md"], None),
        ("config: objects", ["README.md"], None),
        ("split: test", [], None),
        ("config: objects, split: train", ["README.md"], "no split 'train' in config 'objects': known: test"),
        ("config: both", ["README.md"], "no split '' in config 'both': known: test, train"),
        ("config: obects", ["README.md"], "no config 'obects': did you mean 'objects'"),
        ("split: test", ["README.md"], "has no config '': known: "),
        ("split: train", [], r"has no file with split train: name the file, as in .*/lists/objects-test\.csv"),
        ("split: test", ["lists/styles-test.csv"], "2 files with split test: name the file"),
    ],
)
def test_hub_data_set_with_split_and_config(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, files: list[str], reason: str | None
) -> None:
    (hub / "lists").mkdir()
    (hub / "lists" / "objects-test.csv").write_bytes(CSV)
    (hub / "README.md").write_text(CARD)
    listed = [*files, "lists/objects-test.csv", "lists/styles.jsonl", "dataset_infos.json"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: listed)
    path = concept(tmp_path, f"{{file: owner/sets, {chosen}}}")
    if reason is None:
        assert cases(read_concept(path, fetch=PromptSetCache(None))) == [7, 8]
        return
    with pytest.raises(ConceptError, match=reason):
        read_concept(path, fetch=PromptSetCache(None))


def test_local_path_comes_before_the_hub(tmp_path: Path) -> None:
    assert locate_prompt_set("owner/sets", tmp_path) == "hf://datasets/owner/sets"
    assert locate_prompt_set("owner/sets.csv", tmp_path) == tmp_path / "owner" / "sets.csv"
    assert locate_prompt_set("owner/sets.tsv", tmp_path) == tmp_path / "owner" / "sets.tsv", "a slip is no data set"
    (tmp_path / "owner").mkdir()
    assert locate_prompt_set("owner/sets", tmp_path) == tmp_path / "owner" / "sets"
    assert locate_prompt_set("s3://bucket/sets/", tmp_path) == "s3://bucket/sets"


CANNOT = "cannot be fetched: "
ERRORS = {
    "memory://sets/gone.csv": rf"memory://sets/gone\.csv {CANNOT}FileNotFoundError: .*give the file",
    "hf://datasets/owner/gone/x.csv": rf"hf://datasets/owner/gone/x\.csv {CANNOT}.*give the file",
    "hf://owner": r"hf://owner is no file of a data set on the Hub, such as hf://datasets/OWNER/NAME/prompts\.csv",
    "file:///dev/zero": rf"file:///dev/zero {CANNOT}ValueError: is a device, not a file",
    "nowhere://x/y.csv": rf"nowhere://x/y\.csv {CANNOT}ValueError: ",
    "gone.csv": r"prompt set .*gone\.csv cannot be read",
    "{file: 7}": r"church\.yaml:1: file=7 must be a path, a URL or owner/name",
    "{file: x.csv, rows: none}": r"church\.yaml:1: rows='none' must be a whole number",
    "{file: x.csv, sha256: 12ab}": r"church\.yaml:1: sha256='12ab' must be 64 hex digits",
    "{fiel: x.csv}": r"church\.yaml:1: a prompt set has no field 'fiel': did you mean 'file'",
    "{file: here.csv, rows: 3}": r"here\.csv is not the set that .* asks for: 2 rows where 3 belong\. Get that",
    f"{{file: here.csv, sha256: '{'0' * 64}'}}": r"for: SHA-256 [0-9a-f]{16}\.\.\. where 0{16}\.\.\. belongs",
}


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("prompts", ERRORS)
def test_missing_or_other_set_is_one_error(tmp_path: Path, prompts: str) -> None:
    (tmp_path / "here.csv").write_bytes(CSV)
    with pytest.raises(ConceptError, match=ERRORS[prompts]) as caught:
        read_concept(concept(tmp_path, prompts), fetch=PromptSetCache(None))
    # A misspelt field is one that is not known and one that is missing.
    assert len(str(caught.value).splitlines()) == 1 + ("fiel:" in prompts)


def test_no_fetch_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match="memory://x cannot be read here: download it"):
        read_concept(concept(tmp_path, "memory://x"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_any_content_is_a_concept_or_one_error(tmp_path: Path, content: bytes, pinned: bool) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/any.csv", content)
    pin = f", sha256: '{hashlib.sha256(content).hexdigest()}'" if pinned else ""
    path = concept(tmp_path, f"{{file: 'memory://any.csv'{pin}}}")
    message = "memory://any.csv"
    try:
        assert read_concept(path, fetch=PromptSetCache(tmp_path / "store")).prompts
    except ConceptError as error:
        message = str(error)
    assert "memory://any.csv" in message


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_unlearndiff.sources.download.fetch_from_hub", missing)
    with pytest.raises(ConceptError, match=r"prompt set hf://x needs huggingface_hub: pip install huggingface_hub"):
        PromptSetCache(None)("hf://x")


def missing(url: str) -> bytes:
    raise ModuleNotFoundError("No module named 'huggingface_hub'", name="huggingface_hub")


@pytest.mark.parametrize(
    ("content", "pins", "reason"),
    [
        (b"prompt\n\n", "", "no prompts in it"),
        (b"title\na church\n", "", "no column"),
        (b"prompt,seed\na church,many\n", "", "is not a number"),
        (b'prompt\n"a church', "", "not a readable CSV file"),
        (CSV, ", rows: 3", "2 rows where 3 belong"),
    ],
)
def test_errors_redact_the_url_of_a_prompt_set(tmp_path: Path, content: bytes, pins: str, reason: str) -> None:
    url = "https://me:secret@host/church.csv?Signature=secret"
    path = concept(tmp_path, f"{{file: '{url}'{pins}}}")
    with pytest.raises(ConceptError, match=reason) as error:
        read_concept(path, fetch=lambda url, sha256: content)
    assert "https://host/church.csv" in str(error.value)
    assert "secret" not in str(error.value)
