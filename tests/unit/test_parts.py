"""What campaigns share is loaded once, but for a pipeline of the user's own, which may change between two of them."""

from __future__ import annotations

import torch
from tiny import tiny_pipeline

from pytest_unlearndiff.campaign.parts import Parts, VictimSource


def test_a_pipeline_of_the_users_own_is_attacked_as_it_is_now() -> None:
    """Its outcomes are kept under a hash of its weights as they are now, so nothing older may be attacked."""
    parts, pipe = Parts(), tiny_pipeline(0)
    pipe.text_encoder.half()  # mixed types, of which a copy is made
    weights = pipe.text_encoder.get_input_embeddings().weight
    for value in (0.0, 1.0):
        weights.fill_(value)
        found = parts.victim(VictimSource(pipe=pipe)).pipe.text_encoder.get_input_embeddings().weight
        assert torch.equal(found, torch.full_like(found, value))
