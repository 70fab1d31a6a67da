"""Where models come from beside paths: Hub copies on this machine, a base told by shapes, and callables."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from resaved import text
from safetensors.torch import save_file
from tiny import tiny_pipeline

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.loading import weights_digest, wrap_pipeline
from pytest_unlearndiff.plugin.settings import Settings
from pytest_unlearndiff.runs.model_cache import ModelCache, ModelSpec
from pytest_unlearndiff.sources.base_guess import guess_base
from pytest_unlearndiff.sources.import_string import call_factory, is_import_string
from pytest_unlearndiff.sources.resolve import MIRRORS, hub_folder, hub_hint

KEY = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
COMPVIS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A Hub cache of our own; the function puts a repository into it."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    plain = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **how: plain(repo, cache_dir=cache, **how))

    def put(repo: str) -> Path:
        folder = cache / f"models--{repo.replace('/', '--')}"
        snapshot = folder / "snapshots" / ("0" * 40)
        (snapshot / "unet").mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        return snapshot

    return put


def test_a_hub_id_is_its_copy_on_this_machine(hub: Callable[[str], Path]) -> None:
    snapshot = hub("owner/erased-church")
    assert hub_folder("owner/erased-church") == snapshot
    assert hub_folder("owner/erased-church/unet") == snapshot / "unet"
    assert hub_folder(f"owner/erased-church@{'0' * 40}") == snapshot
    assert hub_folder("owner/erased-church/vae") is None
    assert hub_folder("owner/other") is None
    assert "hf download owner/other" in hub_hint("owner/other")


def test_a_withdrawn_id_is_its_mirror(hub: Callable[[str], Path]) -> None:
    mirror = hub(MIRRORS["stabilityai/stable-diffusion-2-1-base"])
    assert hub_folder("stabilityai/stable-diffusion-2-1-base") == mirror
    old = hub("runwayml/stable-diffusion-v1-5")
    assert hub_folder("stable-diffusion-v1-5/stable-diffusion-v1-5") == old
    assert "withdrawn" in hub_hint("stabilityai/stable-diffusion-2")


@pytest.mark.parametrize("text", ["", "a", "a/../b", "/a/b", "a b/c", "..", "../x", "a/b/../../c", "https://x/y"])
def test_what_is_no_id_finds_nothing(text: str) -> None:
    assert hub_folder(text) is None
    assert hub_hint(text) == "" or text in ("../x",)


def test_options_take_hub_ids(hub: Callable[[str], Path], pytester: pytest.Pytester) -> None:
    snapshot = hub("owner/erased")
    arguments = ("--unlearndiff-model=owner/erased", "--unlearndiff-base=owner/erased")
    found = Settings.from_config(pytester.parseconfig(*arguments))
    assert (found.model, found.base) == (snapshot, snapshot)
    with pytest.raises(pytest.UsageError, match="hf download owner/missing"):
        Settings.from_config(pytester.parseconfig("--unlearndiff-model=owner/missing"))


SAVERS: dict[str, Callable[[dict[str, torch.Tensor], Path], Any]] = {
    "safetensors": save_file,
    "zip": torch.save,
    "old pickle": lambda tensors, path: torch.save(tensors, path, _use_new_zipfile_serialization=False),
    "wrapped": lambda tensors, path: torch.save({"state_dict": tensors}, path),
}


@pytest.mark.parametrize("how", SAVERS)
@pytest.mark.parametrize("key", [KEY, COMPVIS])
@pytest.mark.parametrize(("width", "name"), [(768, "Stable Diffusion 1.x"), (1024, "Stable Diffusion 2.x")])
def test_a_family_is_told_by_shapes(how: str, key: str, width: int, name: str, tmp_path: Path) -> None:
    SAVERS[how]({"conv_in.weight": torch.ones(4, 4, 3, 3), key: torch.ones(8, width)}, tmp_path / "x")
    family = guess_base(tmp_path / "x")
    assert family is not None
    assert family.name == name
    assert f"{width} numbers" in str(family)


def test_a_family_is_told_by_a_lora_and_by_a_text_encoder(tmp_path: Path) -> None:
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    save_file({layer: torch.ones(1, 768)}, tmp_path / "lora")
    save_file({"embeddings.token_embedding.weight": torch.ones(10, 1024)}, tmp_path / "text")
    assert [str(guess_base(tmp_path / name))[:20] for name in ("lora", "text")] == [
        "Stable Diffusion 1.x",
        "Stable Diffusion 2.x",
    ]


def test_metadata_outranks_shapes(tmp_path: Path) -> None:
    save_file({KEY: torch.ones(8, 768)}, tmp_path / "x", metadata={"base_model_id": "owner/style-model"})
    family = guess_base(tmp_path / "x")
    assert family is not None
    assert (family.base, family.why) == ("owner/style-model", "as its metadata says")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04junk", b"\x80\x02junk", b"\x00" * 8 + b"{", None])
def test_what_tells_nothing(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    assert guess_base(tmp_path / "x") is None


def test_what_tells_nothing_else(tmp_path: Path) -> None:
    save_file(text(tiny_pipeline(0)), tmp_path / "tiny")
    assert guess_base(tmp_path / "tiny") is None
    (tmp_path / "model_index.json").write_text(json.dumps({}))
    assert guess_base(tmp_path) is None


MODULE = """
from tiny import tiny_pipeline

def pipeline():
    return tiny_pipeline(3)

def broken():
    raise RuntimeError("no weights today")

def other():
    return 7

number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"made_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_callable_makes_the_model(module: str, pytester: pytest.Pytester) -> None:
    spelt = f"{module}:pipeline"
    settings = Settings.from_config(pytester.parseconfig(f"--unlearndiff-model={spelt}"))
    assert is_import_string(settings.model)
    parts = ModelCache()
    loaded = parts.victim(ModelSpec(settings.model))
    assert weights_digest(loaded.pipe) == weights_digest(tiny_pipeline(3))
    assert parts.made(spelt) is parts.made(spelt)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("broken", "raised RuntimeError: no weights today"), ("number", "cannot be called"), ("nothing", "no attribute")],
)
def test_a_callable_that_makes_nothing(module: str, name: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        call_factory(f"{module}:{name}")


def test_a_callable_that_makes_no_pipeline(module: str) -> None:
    with pytest.raises(ModelError, match="the pipeline is a int; only pipelines"):
        ModelCache().victim(ModelSpec(Path(f"{module}:other")))
    with pytest.raises(ModelError, match="importable"):
        call_factory("no_such_module_here:f")


def test_a_pipeline_of_mixed_types_draws_in_the_unets() -> None:
    """As ``from_pretrained`` without a type gives it where files are in half precision."""
    pipe = tiny_pipeline(1)
    pipe.text_encoder.half()
    before = weights_digest(pipe)
    with pytest.raises(RuntimeError, match="dtype"):
        pipe("a church", num_inference_steps=1)
    loaded = wrap_pipeline(pipe)
    assert loaded.notes == ("text_encoder cast from float16 to float32, the UNet's type",)
    assert len(loaded.pipe("a church", num_inference_steps=1).images) == 1
    assert weights_digest(pipe) == before
    assert loaded.pipe.unet is pipe.unet


def test_a_name_that_no_file_can_have_tells_nothing() -> None:
    assert guess_base(Path("x" * 300)) is None


def test_an_archive_that_is_no_checkpoint_tells_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme", "nothing")
    assert guess_base(tmp_path / "x.pt") is None


def test_without_the_hubs_package_nothing_is_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert hub_folder("owner/name") is None
