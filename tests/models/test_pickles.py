"""Zip files of ``torch.save``: every entry is held against the checksum in their directory, and told by its name."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st
from resaved import unet

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.loading import load_victim
from pytest_unlearndiff.models.pickles import check_archive
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

SMALL = {"unet.a": torch.arange(300.0), "unet.b": torch.ones(7), "unet.none": torch.ones(0)}


def entries(path: Path) -> list[tuple[zipfile.ZipInfo, int]]:
    """Every entry of an archive, with the position of its content."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        found = archive.infolist()
    starts = [
        entry.header_offset + 30 + sum(struct.unpack_from("<HH", content, entry.header_offset + 26)) for entry in found
    ]
    return list(zip(found, starts, strict=True))


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def forget_checksum(path: Path, name: str) -> None:
    """Write zero for the checksum of an entry into the archive's directory."""
    content = bytearray(path.read_bytes())
    at = content.index(name.encode(), content.index(b"PK\x01\x02")) - 46
    content[at + 16 : at + 20] = bytes(4)
    path.write_bytes(content)


@pytest.fixture
def without_checksums() -> Iterator[None]:
    torch.serialization.set_crc32_options(False)
    yield
    torch.serialization.set_crc32_options(True)


@pytest.mark.parametrize("number", range(10))
def test_a_flipped_bit_in_any_entry_of_a_checkpoint_is_told_with_its_name(
    number: int, base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    path = tmp_path / "esd.pt"
    torch.save(unet(other), path)
    load_victim(read_checkpoint(path), base)
    found = [(entry, start) for entry, start in entries(path) if entry.file_size]
    entry, start = found[number * (len(found) - 1) // 9]
    flip(path, start + entry.file_size // 2)
    with pytest.raises(ModelError) as caught:
        read_checkpoint(path)
    assert f"{path} is damaged: its entry '{entry.filename}' is not what was saved" in str(caught.value)


@given(st.data())
def test_no_flipped_bit_of_any_content_passes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("archive") / "small.pt"
    torch.save(SMALL, path)
    check_archive(path)
    entry, start = data.draw(st.sampled_from([pair for pair in entries(path) if pair[0].file_size]))
    flip(path, start + data.draw(st.integers(0, entry.file_size - 1)), data.draw(st.integers(0, 7)))
    with pytest.raises(ModelError):
        check_archive(path)


def test_an_archive_that_torch_wrote_without_checksums_is_read(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path, without_checksums: None
) -> None:
    torch.save(unet(other), tmp_path / "esd.pt")
    assert not any(entry.CRC for entry, _ in entries(tmp_path / "esd.pt"))
    loaded = load_victim(read_checkpoint(tmp_path / "esd.pt"), base).pipe.unet.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in unet(other).items())


def test_a_checksum_of_zero_among_others_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "small.pt"
    torch.save(SMALL, path)
    assert [entry.CRC for entry, _ in entries(path) if not entry.file_size] == [0], "that of nothing is zero"
    check_archive(path)
    forget_checksum(path, "small/data/0")
    with pytest.raises(ModelError, match="its entry 'small/data/0' is not what was saved"):
        check_archive(path)


def test_older_files_have_no_checksum_and_are_read(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    torch.save(unet(other), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "old.pt")
    assert load_victim(read_checkpoint(tmp_path / "old.pt"), base).changes


def test_an_archive_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: sizes.append(n) or read(self, n))
    torch.save({"unet.a": torch.zeros(2**20)}, tmp_path / "large.pt")
    check_archive(tmp_path / "large.pt")
    assert len(sizes) > 4
    assert set(sizes) == {2**20}


def test_a_damaged_pickle_in_a_pipeline_folder_is_refused(other: StableDiffusionPipeline, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path, safe_serialization=False)
    path = tmp_path / "unet" / "diffusion_pytorch_model.bin"
    load_pipeline(tmp_path)
    entry, start = max(entries(path), key=lambda pair: pair[0].file_size)
    flip(path, start + 2)
    with pytest.raises(ModelError, match=f"is damaged: its entry '{entry.filename}'"):
        load_pipeline(tmp_path)
