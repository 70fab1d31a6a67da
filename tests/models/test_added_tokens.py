"""Tokens that training added for a concept, as Forget-Me-Not saves them: in the tokenizer and as embeddings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_pipeline
from tokenizers.decoders import Fuse

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.loading import Loaded, load_victim

TOKENS = ["<s1>", "<s2>"]
PADDING = 3  # rows that no token has, as training pads the table


@pytest.fixture(scope="module")
def base() -> Any:
    return tiny_pipeline(0)


@pytest.fixture(scope="module")
def erased() -> Any:
    pipe = tiny_pipeline(1)
    pipe.tokenizer.add_tokens(TOKENS)
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer) + PADDING)
    return pipe


@pytest.fixture(scope="module")
def folder(erased: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forget-me-not")
    erased.save_pretrained(folder / "pipe")
    erased.text_encoder.save_pretrained(folder / "encoder")
    save_file(erased.text_encoder.state_dict(), folder / "file")
    return folder


def load(path: Path, base: Any) -> Loaded:
    return load_victim(read_checkpoint(path), base)


def test_pipeline_keeps_its_tokens_in_the_vocabulary(folder: Path, base: Any) -> None:
    loaded = load(folder / "pipe", base)
    assert "its tokenizer adds 2 tokens (<s1>, <s2>)" in loaded.notes[0]
    change = next(change for change in loaded.changes if change.component == "text_encoder")
    assert change.changed > 0
    assert str(change).endswith("5 more token embeddings than the base's")
    model = DiffusionModel(loaded.pipe, Sampling(1, "own"))
    added = loaded.pipe.tokenizer.convert_tokens_to_ids(TOKENS)
    typeable = set(model.vocabulary.typeable.tolist())
    assert typeable.issuperset(added)
    # Rows without a token are no text.
    assert max(typeable) < len(loaded.pipe.tokenizer) == len(model.vocabulary.embeddings) - PADDING
    plain, named = model.encode_prompts(["a church", "a <s1> church"]).vectors()
    assert not torch.equal(plain, named)
    (drawn,) = model.generate([GenerationRequest("a <s1> church", 1, 5.0)])
    assert drawn.problem is None or not drawn.problem


@pytest.mark.parametrize("name", ["encoder", "file"])
def test_encoder_alone_leaves_out_what_no_text_reaches(name: str, folder: Path, base: Any, erased: Any) -> None:
    loaded = load(folder / name, base)
    (change,) = loaded.changes
    assert change.how == "5 token embeddings left out, which no text reaches with the base's tokenizer"
    after = loaded.pipe.text_encoder.get_input_embeddings().weight
    assert torch.equal(after, erased.text_encoder.get_input_embeddings().weight[: len(after)])


def test_table_of_another_vocabulary_is_refused(erased: Any, base: Any, tmp_path: Path) -> None:
    tensors = {key: value.clone() for key, value in erased.text_encoder.state_dict().items()}
    key = next(key for key in tensors if key.endswith("token_embedding.weight"))
    for table in (torch.ones(9_000, 32), tensors[key][:-10], torch.ones(len(tensors[key]), 16)):
        save_file({**tensors, key: table.contiguous()}, tmp_path / "x")
        with pytest.raises(ModelError, match=r"token_embedding\.weight is .* in the base"):
            load(tmp_path / "x", base)


def test_tokenizer_that_lost_its_decoder_is_refused() -> None:
    """As ``copy.deepcopy`` leaves it: "church" is decoded as "church</w>", which is other tokens."""
    pipe = tiny_pipeline(1)
    pipe.tokenizer = copy.deepcopy(pipe.tokenizer)
    pipe.tokenizer.backend_tokenizer.decoder = Fuse()
    with pytest.raises(ModelError, match=r"none of its tokenizer's 1598 tokens comes back .*: load it again"):
        _ = DiffusionModel(pipe, Sampling(1, "own")).vocabulary.typeable
