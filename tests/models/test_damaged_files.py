"""More than 200 spoiled checkpoints: each is one ModelError that names the path, and nothing in them is executed."""

from __future__ import annotations

import contextlib
import json
import operator
import os
import pickle
import random
import struct
import subprocess
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st
from resaved import (
    ATTN2,
    FORMATS,
    KV,
    adv_unlearn,
    compvis,
    erasers,
    kohya,
    latent_diffusion,
    low_rank,
    nested,
    peft,
    text,
    unet,
)
from safetensors.torch import save_file
from tiny import tiny_pipeline

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.loading import load_victim, weights_digest
from pytest_unlearndiff.models.pickles import check_archive
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

Tensors = dict[str, torch.Tensor]
Make = Callable[[StableDiffusionPipeline, Path], None]

# Kinds of file that hold tensors of an unlearned model; each is spoiled in every way below.
TENSORS: dict[str, Callable[[StableDiffusionPipeline], Tensors]] = {
    "unet": unet,
    "esd-x": lambda pipe: unet(pipe, ATTN2),
    "uce": lambda pipe: unet(pipe, KV),
    "compvis": compvis,
    "compvis partial": lambda pipe: compvis(pipe, KV),
    "compvis whole": latent_diffusion,
    "text encoder": text,
    "advunlearn": adv_unlearn,
    "kohya": lambda pipe: kohya(low_rank(pipe, 1), 1.0),
    "peft": lambda pipe: peft(low_rank(pipe, 1), "unet."),
    "receler": lambda pipe: {f"{a}.{b}": value for a, part in erasers(pipe).items() for b, value in part.items()},
}


def first(tensors: Tensors) -> str:
    """A name whose tensor has numbers and more than one of them."""
    return next(key for key, value in tensors.items() if value.is_floating_point() and value.numel() > 1)


def replaced(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], Tensors]:
    """Another tensor in place of the first."""
    return lambda tensors: {**tensors, first(tensors): make(tensors[first(tensors)])}


def last_number(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def make(tensor: torch.Tensor) -> torch.Tensor:
        spoiled = tensor.clone()
        spoiled.view(-1)[-1] = value
        return spoiled

    return make


SPOIL: dict[str, Callable[[Tensors], Tensors]] = {
    "a tensor less": lambda tensors: {key: value for key, value in tensors.items() if key != first(tensors)},
    "a tensor more": lambda tensors: {**tensors, "zzz.weight": torch.ones(2)},
    "a tensor more, alike": lambda tensors: {**tensors, first(tensors) + "_": torch.ones(2)},
    "another prefix": lambda tensors: {f"model.student.{key}": value for key, value in tensors.items()},
    "half with another prefix": lambda tensors: {
        (f"ema.{key}" if i % 2 else key): value for i, (key, value) in enumerate(tensors.items())
    },
    "one more row": replaced(lambda tensor: torch.cat([tensor, tensor[:1]])),
    "flat": replaced(lambda tensor: tensor.flatten()[None, None, None]),
    "empty tensor": replaced(lambda tensor: tensor[:0]),
    "a single number": replaced(lambda _: torch.tensor(1.0)),
    "whole numbers": replaced(lambda tensor: tensor.to(torch.int8)),
    "truth values": replaced(lambda tensor: tensor > 0),
    "complex numbers": replaced(lambda tensor: tensor.to(torch.complex64)),
    "NaN": replaced(last_number(torch.nan)),
    "infinity": replaced(last_number(torch.inf)),
    "minus infinity": replaced(last_number(-torch.inf)),
    "too large for float32": replaced(lambda tensor: tensor.double() + 1e300),
}


def spoiled_tensors() -> Iterator[tuple[str, Make]]:
    def make(tensors: Any, spoil: Any) -> Make:
        return lambda pipe, path: torch.save(spoil(tensors(pipe)), path)

    for kind, tensors in TENSORS.items():
        for how, spoil in SPOIL.items():
            # A row more of the token table, which is the first tensor, is an added token (test_added_tokens.py).
            if (kind, how) != ("text encoder", "one more row"):
                yield f"{kind}: {how}", make(tensors, spoil)


def cut(name: str, share: float) -> Make:
    def make(pipe: StableDiffusionPipeline, path: Path) -> None:
        FORMATS[name].write(pipe, path)
        os.truncate(path, int(path.stat().st_size * share))

    return make


def truncated() -> Iterator[tuple[str, Make]]:
    for name in ("unet safetensors", "unet pt", "unet pt of old", "esd-x", "esd nested", "compvis whole"):
        for share in (0.0, 0.001, 0.02, 0.3, 0.7, 0.99):
            yield f"{name}, cut at {share}", cut(name, share)


def raw(content: bytes) -> Make:
    def make(_: StableDiffusionPipeline, path: Path) -> None:
        path.write_bytes(content)

    return make


def saved(content: Callable[[StableDiffusionPipeline], Any]) -> Make:
    return lambda pipe, path: torch.save(content(pipe), path)


def cyclic(pipe: StableDiffusionPipeline) -> dict[str, Any]:
    tree: dict[str, Any] = {"a": torch.ones(1)}
    tree["state_dict"] = tree
    return tree


def tangled(pipe: StableDiffusionPipeline) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    tree |= {f"x{i}": tree for i in range(50)}
    return tree


def deep(pipe: StableDiffusionPipeline) -> dict[str, Any]:
    tree: Any = torch.ones(1)
    for _ in range(200):
        tree = {"a": tree}
    return {"b": tree}


def contents() -> Iterator[tuple[str, Make]]:
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    yield "an empty file", raw(b"")
    yield "text", raw(b"hello\n")
    yield "zeros", raw(bytes(4096))
    yield "a lone header", raw(struct.pack("<Q", len(header)) + header)
    yield "a header without end", raw(struct.pack("<Q", 2**62) + b"{" + bytes(64))
    yield "a web page", raw(b"<!DOCTYPE html><html>404</html>")
    yield "a Git LFS pointer", raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438167534\n")
    yield "a bare pickle", raw(pickle.dumps({"down_blocks.0": [1, 2]}))
    yield "safetensors without tensors", lambda _, path: save_file({}, path)
    yield "an empty dict", saved(lambda _: {})
    yield "an empty wrapper", saved(lambda _: {"state_dict": {}})
    yield "a list", saved(lambda pipe: list(unet(pipe).values()))
    yield "a tensor", saved(lambda _: torch.ones(3))
    yield "a number", saved(lambda _: 3)
    yield "numbered tensors", saved(lambda pipe: dict(enumerate(unet(pipe).values())))
    yield "two wrappers", saved(lambda pipe: {"model": unet(pipe), "state_dict": unet(pipe)})
    yield "a number among tensors", saved(lambda pipe: {"state_dict": unet(pipe) | {"mid_block.x": [3]}})
    yield "nothing but plain values", saved(lambda _: {"epoch": 3, "name": "church"})
    yield "a dict in itself", saved(cyclic)
    yield "a dict full of itself", saved(tangled)
    yield "a deep dict", saved(deep)
    yield (
        "the same tensor with and without prefix",
        saved(lambda pipe: unet(pipe) | {f"unet.{key}": value for key, value in unet(pipe).items()}),
    )
    yield "the same text tensor twice", saved(lambda pipe: text(pipe) | text(pipe, "text_model."))
    yield (
        "the wrapper's copies differ",
        saved(lambda pipe: adv_unlearn(pipe) | {"final_layer_norm.weight": torch.full((32,), 3.0)}),
    )
    yield "the base itself", saved(lambda _: unet(tiny_pipeline(0)))
    yield "a LoRA of zeros", saved(lambda pipe: {k: torch.zeros_like(v) for k, v in TENSORS["peft"](pipe).items()})
    yield "erasers of zeros", saved(lambda pipe: {k: torch.zeros_like(v) for k, v in TENSORS["receler"](pipe).items()})
    yield "tensors without data", saved(lambda pipe: {k: v.to("meta") for k, v in unet(pipe).items()})
    yield (
        "a sparse tensor",
        saved(lambda pipe: {k: v.to_sparse() if v.dim() == 2 else v for k, v in unet(pipe).items()}),
    )
    yield (
        "a tensor that claims to be huge",
        saved(lambda pipe: unet(pipe) | {"conv_in.weight": torch.ones(1).expand(2**40)}),
    )
    yield "an embedding", saved(lambda _: {"<church>": torch.ones(32)})
    yield "an optimiser", saved(lambda _: {"state": {}, "param_groups": [{"lr": 0.1}]})
    yield "an autoencoder", saved(lambda pipe: pipe.vae.state_dict())
    yield (
        "alpha of a LoRA with three numbers",
        saved(lambda pipe: {k: torch.ones(3) if k.endswith("alpha") else v for k, v in TENSORS["kohya"](pipe).items()}),
    )
    yield "a base of another size", saved(lambda pipe: {k: torch.cat([v, v]) for k, v in unet(pipe).items()})
    yield "nested, one module lost", saved(lambda pipe: dict(list(nested(unet(pipe, ATTN2), "unet.").items())[1:]))


def zipped(write: Callable[[zipfile.ZipFile], None], compression: int = zipfile.ZIP_STORED) -> Make:
    def make(_: StableDiffusionPipeline, path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            write(archive)

    return make


def claiming(size: int) -> Make:
    """An archive whose directory claims more than there is."""

    def make(pipe: StableDiffusionPipeline, path: Path) -> None:
        torch.save(unet(pipe), path)
        content = bytearray(path.read_bytes())
        entry = content.rindex(b"PK\x01\x02")
        content[entry + 20 : entry + 28] = struct.pack("<II", size, size)
        path.write_bytes(content)

    return make


def archives() -> Iterator[tuple[str, Make]]:
    bomb = bytes(10_000_000)
    yield "a zip bomb for tensors", zipped(lambda z: z.writestr("a/data/0", bomb), zipfile.ZIP_DEFLATED)
    yield "a zip bomb for the pickle", zipped(lambda z: z.writestr("a/data.pkl", bomb), zipfile.ZIP_DEFLATED)
    yield "a zip bomb, better packed", zipped(lambda z: z.writestr("a/data.pkl", bomb), zipfile.ZIP_LZMA)
    yield "a huge pickle", zipped(lambda z: z.writestr("a/data.pkl", bytes(70_000_000)))
    yield "an archive that claims too much", claiming(2**31)
    yield "an archive that claims a little more", claiming(2**24)
    yield "an archive of images", zipped(lambda z: z.writestr("a.png", b"\x89PNG"))
    yield "an empty archive", zipped(lambda z: None)


class Runs:
    """Unpickles by calling something."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


MARK = "unlearndiff-was-run"


def attempts() -> dict[str, Runs]:
    """Calls that would leave a file named MARK in the working folder."""
    command = f"touch {MARK}"
    return {
        "os.system": Runs(os.system, command),
        "os.mkdir": Runs(os.mkdir, MARK),
        "subprocess": Runs(subprocess.check_call, ["touch", MARK]),
        "eval": Runs(eval, f"open({MARK!r}, 'w')"),
        "exec": Runs(exec, f"open({MARK!r}, 'w')"),
        "open": Runs(open, MARK, "w"),
        "getattr": Runs(operator.call, Runs(getattr, Runs(__import__, "os"), "mkdir"), MARK),
        "pathlib": Runs(Path.touch, Runs(Path, MARK)),
        "torch.save": Runs(torch.save, 1, MARK),
    }


@pytest.mark.parametrize("name", attempts())
def test_attempts_succeed_with_a_reader_that_executes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # nobody closes what an attempt opens
        pickle.loads(pickle.dumps(attempts()[name]))
    assert (tmp_path / MARK).exists()


def pickles() -> Iterator[tuple[str, Make]]:
    for name, call in attempts().items():
        yield f"{name} beside tensors", saved(lambda pipe, call=call: unet(pipe) | {"mid_block.x": call})
        yield f"{name} as the file", saved(lambda _, call=call: call)
        yield (
            f"{name} in an old file",
            lambda pipe, path, call=call: torch.save(
                {"state_dict": unet(pipe), "x": call}, path, _use_new_zipfile_serialization=False
            ),
        )
        yield f"{name} in a bare pickle", raw(pickle.dumps(call, protocol=4))


def folder(spoil: Callable[[Path], Any]) -> Make:
    def make(pipe: StableDiffusionPipeline, path: Path) -> None:
        pipe.save_pretrained(path)
        spoil(path)

    return make


def file_of(path: Path, part: str) -> Path:
    return path / part / ("model.safetensors" if part == "text_encoder" else "diffusion_pytorch_model.safetensors")


def respoiled(part: str, spoil: Callable[[Tensors], Tensors]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from safetensors.torch import load_file

        save_file(spoil(load_file(file_of(path, part))), file_of(path, part))

    return make


def pipelines() -> Iterator[tuple[str, Make]]:
    hows = ("a tensor less", "a tensor more", "one more row", "NaN", "infinity")
    for part in ("unet", "text_encoder", "vae"):
        for how in hows:
            yield f"pipeline whose {part} has {how}", folder(respoiled(part, SPOIL[how]))
        yield f"pipeline without {part} weights", folder(lambda path, part=part: file_of(path, part).unlink())
        yield f"pipeline without {part} config", folder(lambda path, part=part: (path / part / "config.json").unlink())
        yield f"pipeline with a torn {part}", folder(lambda path, part=part: os.truncate(file_of(path, part), 5000))
    for name in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json"):
        for content in ("", "[]", "{", "null", '{"_class_name": 3}'):
            yield (
                f"pipeline whose {name} is {content!r}",
                folder(lambda path, name=name, content=content: (path / name).write_text(content)),
            )
    yield "pipeline whose shards lead out", folder(leading_out)


def leading_out(path: Path) -> None:
    file_of(path, "unet").unlink()
    index = {"weight_map": {"conv_in.weight": "../../../etc/passwd"}}
    (path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def two_files(pipe: StableDiffusionPipeline, path: Path) -> None:
    path.mkdir()
    for name in "ab":
        torch.save(unet(pipe), path / name)


def folders() -> Iterator[tuple[str, Make]]:
    def adapter(config: Any) -> Make:
        def make(pipe: StableDiffusionPipeline, path: Path) -> None:
            path.mkdir()
            (path / "adapter_config.json").write_text(json.dumps(config))
            save_file(peft(low_rank(pipe, 1), "base_model.model."), path / "adapter_model.safetensors")

        return make

    def receler(config: Any, rank: int = 3) -> Make:
        def make(pipe: StableDiffusionPipeline, path: Path) -> None:
            path.mkdir()
            (path / "eraser_config.json").write_text(json.dumps(config))
            torch.save(erasers(pipe, rank), path / "eraser_weights.pt")

        return make

    for option in (
        {"use_dora": True},
        {"use_rslora": True},
        {"bias": "all"},
        {"rank_pattern": {"a": 2}},
        {"lora_alpha": "x"},
        {"peft_type": "IA3"},
        {"lora_alpha": None, "r": None},
    ):
        yield f"adapter with {option}", adapter({"r": 1, "lora_alpha": 1, **option})
    yield "adapter whose config is a list", adapter([1])
    yield "erasers of another kind", receler({"eraser_type": "gate", "eraser_rank": 3})
    yield "erasers of another rank", receler({"eraser_type": "adapter", "eraser_rank": 4})
    yield "an empty folder", lambda _, path: path.mkdir()
    yield "two files", two_files
    yield "a loop of links", lambda _, path: path.symlink_to(path)
    yield "a link to nothing", lambda _, path: path.symlink_to(path.parent / "nowhere")
    yield "a link to a device", lambda _, path: path.symlink_to("/dev/zero")
    yield "a pipe", lambda _, path: os.mkfifo(path)
    yield "a link to a folder without a model", lambda _, path: path.symlink_to("/proc/self/fdinfo")


CASES: dict[str, Make] = {
    name: make
    for source in (spoiled_tensors, truncated, contents, archives, pickles, pipelines, folders)
    for name, make in source()
}


PICKLES = [name for name, _ in pickles()]


def test_at_least_200_cases() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize("name", CASES)
def test_damaged_checkpoint_is_one_error(
    name: str,
    base: StableDiffusionPipeline,
    other: StableDiffusionPipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "checkpoint"
    CASES[name](other, path)
    monkeypatch.chdir(tmp_path)
    before = weights_digest(base) if "row" in name else ""
    with pytest.raises(ModelError) as caught:
        load_victim(read_checkpoint(path), base)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert not (tmp_path / MARK).exists()
    if before:
        assert weights_digest(base) == before


@pytest.mark.parametrize("name", [*PICKLES, *(name for name, _ in contents())])
def test_trusted_pickle_is_not_executed(
    name: str,
    base: StableDiffusionPipeline,
    other: StableDiffusionPipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that names code beside tensors may be read: the tensors are those that were saved, the rest the base's."""
    path = tmp_path / "checkpoint"
    CASES[name](other, path)
    monkeypatch.chdir(tmp_path)
    found = None
    with contextlib.suppress(ModelError):
        found = load_victim(read_checkpoint(path, trust_pickle=True), base)
    if found is not None:
        assert name in PICKLES
        assert any("not executed, left out" in note for note in found.notes)
        saved = unet(other)
        assert all(torch.equal(value, saved[key]) for key, value in found.pipe.unet.state_dict().items())
    assert not (tmp_path / MARK).exists()


def test_flipped_bits_of_headers_are_noticed(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    """In the header of safetensors and in the pickle of a zip file; numbers themselves carry no checksum."""
    chance, survived = random.Random(0), 0
    for name in ("unet safetensors", "unet pt"):
        whole = tmp_path / name
        FORMATS[name].write(other, whole)
        wanted = weights_digest(load_victim(read_checkpoint(whole), base).pipe)
        content = whole.read_bytes()
        header = range(8 + int.from_bytes(content[:8], "little")) if "safe" in name else range(12000)
        for _ in range(40):
            spoiled = bytearray(content)
            spoiled[chance.choice(header)] ^= 1 << chance.randrange(8)
            (tmp_path / "flipped").write_bytes(spoiled)
            try:
                found = load_victim(read_checkpoint(tmp_path / "flipped"), base)
            except ModelError:
                continue
            survived += 1
            assert weights_digest(found.pipe) == wanted
    assert survived < 40


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
def test_flipped_bit_is_told_with_its_entry(
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
def test_no_flipped_bit_passes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("archive") / "small.pt"
    torch.save(SMALL, path)
    check_archive(path)
    entry, start = data.draw(st.sampled_from([pair for pair in entries(path) if pair[0].file_size]))
    flip(path, start + data.draw(st.integers(0, entry.file_size - 1)), data.draw(st.integers(0, 7)))
    with pytest.raises(ModelError):
        check_archive(path)


def test_archive_without_checksums_is_read(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path, without_checksums: None
) -> None:
    torch.save(unet(other), tmp_path / "esd.pt")
    assert not any(entry.CRC for entry, _ in entries(tmp_path / "esd.pt"))
    loaded = load_victim(read_checkpoint(tmp_path / "esd.pt"), base).pipe.unet.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in unet(other).items())


def test_checksum_of_zero_among_others_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "small.pt"
    torch.save(SMALL, path)
    assert [entry.CRC for entry, _ in entries(path) if not entry.file_size] == [0], "that of nothing is zero"
    check_archive(path)
    forget_checksum(path, "small/data/0")
    with pytest.raises(ModelError, match="its entry 'small/data/0' is not what was saved"):
        check_archive(path)


def test_older_pickle_without_checksum_is_read(
    base: StableDiffusionPipeline, other: StableDiffusionPipeline, tmp_path: Path
) -> None:
    torch.save(unet(other), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "old.pt")
    assert load_victim(read_checkpoint(tmp_path / "old.pt"), base).changes


def test_archive_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: sizes.append(n) or read(self, n))
    torch.save({"unet.a": torch.zeros(2**20)}, tmp_path / "large.pt")
    check_archive(tmp_path / "large.pt")
    assert len(sizes) > 4
    assert set(sizes) == {2**20}


def test_pickle_named_safetensors_in_a_pipeline_folder(other: StableDiffusionPipeline, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path, safe_serialization=False)
    path = tmp_path / "unet" / "diffusion_pytorch_model.bin"
    path.rename(path.with_suffix(".safetensors"))
    with pytest.raises(ModelError, match=r"unet/.* is what torch.save writes: name it diffusion_pytorch_model\.bin"):
        load_pipeline(tmp_path)


def test_damaged_pickle_in_a_pipeline_folder_is_refused(other: StableDiffusionPipeline, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path, safe_serialization=False)
    path = tmp_path / "unet" / "diffusion_pytorch_model.bin"
    load_pipeline(tmp_path)
    entry, start = max(entries(path), key=lambda pair: pair[0].file_size)
    flip(path, start + 2)
    with pytest.raises(ModelError, match=f"is damaged: its entry '{entry.filename}'"):
        load_pipeline(tmp_path)
