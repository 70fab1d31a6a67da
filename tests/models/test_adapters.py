"""Several checkpoints in one victim: in their order, each accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from resaved import KV, kohya, low_rank, unet
from safetensors.torch import save_file
from tiny import tiny_pipeline

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.loading import weights_digest
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.store.key import Fingerprints


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a part of other weights (esd), and two LoRA."""
    folder, base = tmp_path_factory.mktemp("adapters"), tiny_pipeline(0)
    base.save_pretrained(folder / "base")
    save_file(unet(tiny_pipeline(1), KV), folder / "esd", metadata={"erase_concept": "church"})
    for seed in (1, 2):
        save_file(kohya(low_rank(base, seed), 1.0), folder / f"lora-{seed}")
    return folder


def spec(folder: Path, *names: str, base: str | None = "base") -> ModelSpec:
    first, *others = (folder / name for name in names)
    return ModelSpec(first, folder / base if base else None, adapters=tuple(others))


def weights(pipe: Any) -> dict[str, torch.Tensor]:
    return dict(pipe.unet.state_dict())


def test_they_are_put_in_by_their_order(folder: Path) -> None:
    cache = ModelCache()
    loaded, alone = (cache.victim(spec(folder, *names)) for names in (("esd", "lora-1", "lora-2"), ("esd",)))
    expected = weights(alone.pipe)
    for seed in (1, 2):
        for name, (up, down) in low_rank(tiny_pipeline(0), seed).items():
            delta = torch.einsum("or...,ri...->oi...", up, down)
            expected[f"{name}.weight"] = expected[f"{name}.weight"] + delta.reshape(expected[f"{name}.weight"].shape)
    for key, value in weights(loaded.pipe).items():
        torch.testing.assert_close(value, expected[key], msg=key)
    # Behind the LoRA, the part of other weights replaces what the LoRA changed.
    replaced = cache.victim(spec(folder, "lora-1", "lora-2", "esd"))
    assert all(torch.equal(weights(replaced.pipe)[key], value) for key, value in unet(tiny_pipeline(1), KV).items())
    assert [change.file for change in loaded.changes] == ["esd", "lora-1", "lora-2"]
    assert str(loaded.changes[1]).startswith("lora-1: unet: ")
    assert loaded.format == "UNet state dict, then LoRA with kohya names, then LoRA with kohya names"
    assert loaded.metadata == {"esd: erase_concept": "church"}
    assert weights_digest(cache.base(spec(folder, "esd"))) == weights_digest(tiny_pipeline(0))


def test_a_whole_pipeline_comes_first(folder: Path) -> None:
    loaded = ModelCache().victim(spec(folder, "base", "lora-1", base=None))
    assert [change.file for change in loaded.changes] == ["lora-1"]
    with pytest.raises(ModelError, match=r"base is a whole pipeline, .*: name it first"):
        ModelCache().victim(spec(folder, "lora-1", "base"))


def test_each_has_to_change_something(folder: Path) -> None:
    nothing = {
        key: value * 0 if "up" in key else value for key, value in kohya(low_rank(tiny_pipeline(0), 1), 1.0).items()
    }
    save_file(nothing, folder / "nothing")
    with pytest.raises(ModelError, match=r"nothing .*nothing was unlearned in this checkpoint"):
        ModelCache().victim(spec(folder, "esd", "nothing"))


def test_files_and_their_order_are_in_the_key(folder: Path) -> None:
    lists = [("esd",), ("lora-1", "lora-2"), ("lora-2", "lora-1"), ("lora-1",), ("base", "lora-1"), ("base",)]
    victims = [Fingerprint.of(spec(folder, *names), Fingerprints()).victim for names in lists]
    assert len(set(victims)) == len(lists)
    assert spec(folder, "esd", "lora-1").label == f"{folder / 'esd'} with {folder / 'lora-1'}"


def test_inspect_accounts_for_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", f"{folder / 'esd'},{folder / 'lora-1'}", f"--base={folder / 'base'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("model:")] == [
        f"model:   {folder / name}" for name in ("esd", "lora-1")
    ]
    assert [line.split("unet:")[0] for line in lines if line.startswith("changes:")] == [
        "changes: esd: ",
        "changes: lora-1: ",
    ]
    assert lines[-1] == "verdict: can be attacked"


def test_masks_of_minimalist_concept_erasure_are_refused_by_name(tmp_path: Path) -> None:
    torch.save([torch.rand(4), torch.rand(8)], tmp_path / "attn.pt")
    with pytest.raises(ModelError, match=r"masks, as Minimalist Concept Erasure saves them .*pkg\.mod:callable"):
        ModelCache().victim(ModelSpec(tmp_path / "attn.pt"))
