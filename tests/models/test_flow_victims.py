"""The erased models of the flow-matching pipeline that ship are of the formats that their authors publish, and load."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file
from tiny import EMOJI

from pytest_unlearndiff.__main__ import main

ERASED = EMOJI / "flow_erased"
BLOCKS = 5

# Method: pattern of every tensor's name, dtype, number of tensors, and what ``inspect`` says of them.
FORMATS = {
    "esd-x": (
        r"transformer_blocks\.\d\.attn\.(to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)\.(weight|bias)",
        torch.float16,
        BLOCKS * 8 * 2 - 2,  # the last block writes no text states
        "transformer state dict",
    ),
    "lora": (
        r"transformer\.transformer_blocks\.\d\.attn\.add_[kq]_proj\.lora_[AB]\.weight",
        torch.bfloat16,
        BLOCKS * 2 * 2,
        "LoRA with PEFT names",
    ),
    "uce": (
        r"context_embedder\.weight|time_text_embed\.text_embedder\.linear_1\.weight",
        torch.float16,
        2,
        "transformer state dict",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("concept", ["church", "fish"])
@pytest.mark.parametrize("method", FORMATS)
def test_shipped_victim_is_of_its_format(method: str, concept: str, capsys: pytest.CaptureFixture[str]) -> None:
    names, dtype, count, title = FORMATS[method]
    path = ERASED / f"{method}-{concept}.safetensors"
    tensors = load_file(path)
    assert len(tensors) == count
    assert all(re.fullmatch(names, name) for name in tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    assert {min(tensor.shape) for tensor in tensors.values()} == {8} or method != "lora"
    assert main(["inspect", str(path), f"--base={EMOJI / 'flow'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"format:  {title}" in lines
    matrices = count // 2 if method == "lora" else count
    changed = re.search(rf"transformer: (\d+) of {matrices} given tensors changed", "\n".join(lines))
    assert changed is not None
    # The last block has no text states to write, so that some of its text queries change nothing and are not trained.
    assert matrices - 2 <= int(changed[1]) <= matrices
    assert lines[-1] == "verdict: can be attacked"


def test_all_shipped_victims_are_checked() -> None:
    shipped = {path.stem for path in ERASED.iterdir()}
    assert shipped == {f"{method}-{concept}" for method in FORMATS for concept in ("church", "fish")}
    assert sum(path.stat().st_size for path in ERASED.iterdir()) < 12e6
