"""The paper's attack written out step by step, as the yardstick of speed and of mathematics.

UnlearnDiffAtk (Zhang et al., ECCV 2024, arXiv 2310.11868) one prompt at a time, each network called with one sample,
nothing remembered, nothing shared with ``pytest_unlearndiff.attacks``. Of upstream's quirks two are left out, because
they belong to its surroundings rather than to its method: every evaluation reseeds the global random stream there, so
that each block meets the same noise, and prompts that are too long are skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import LMSDiscreteScheduler
from PIL import Image

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import Judgement
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.models.libraries import library_warnings_ignored

VERSION = 2
"""Raised when a change may change outcomes, so that kept ones stop counting."""

BLOCKS = 50
STEPS = 40
RATE = 0.01
DECAY = 0.1
TOLERANCE = 1e-5
TARGET_STEPS = 25
TARGET_GUIDANCE = 7.5
"""How target images are drawn, whatever the evaluation's steps and the prompt's guidance (research:
generate_dataset.py:85, 157, 161)."""

Judge = Callable[[Sequence[Image.Image]], list[Judgement]]


@dataclass
class Spent:
    """What a prompt has cost so far: see the fields of the same names of ``Outcome``."""

    evaluations: int = 0
    steps: int = 0
    forwards: int = 0


class Literal:
    """The attack on one victim.

    Args:
        pipe: the victim, a Stable Diffusion pipeline.
        base: the un-erased one, which draws target images.
        judge: says whether an image shows the concept.
        slots: adversarial tokens before the prompt.
        sampling_steps: LMS steps of an image; the published numbers use 50.
        blocks: timesteps to go through.
        steps: optimiser steps at each.
        spacing: of the timesteps of images; upstream's is ``linspace``.
    """

    def __init__(
        self,
        pipe: Any,
        base: Any,
        judge: Judge,
        slots: int,
        sampling_steps: int,
        *,
        blocks: int = BLOCKS,
        steps: int = STEPS,
        spacing: str = "linspace",
    ) -> None:
        self.pipe = pipe
        self.base = base
        self.judge = judge
        self.slots = slots
        self.sampling_steps = sampling_steps
        self.blocks = blocks
        self.steps = steps
        self.spacing = spacing
        total = pipe.scheduler.config.num_train_timesteps
        self.timesteps = range(total // blocks // 2, total, total // blocks)
        self.alphas = lms(pipe, sampling_steps, spacing).alphas_cumprod

    @property
    def forwards(self) -> int:
        """Network forward passes on a prompt that resists, its un-attacked image not counted."""
        return self.blocks * (2 * self.steps + 2 * self.sampling_steps)

    def attack(self, prompt: Prompt, generator: torch.Generator) -> Outcome:
        """Search until the judge sees the concept or the timesteps are used up.

        Args:
            prompt: what to attack.
            generator: of sampled tokens and of noise, in this order in every step.
        """
        started, spent = time.monotonic(), Spent()

        def ended(
            status: Status, judgement: Judgement, text: str | None = None, inserted: str | None = None
        ) -> Outcome:
            return Outcome(
                prompt.digest,
                status,
                adversarial=text,
                inserted=inserted,
                seed=prompt.seed,
                evaluations=spent.evaluations,
                steps=spent.steps,
                forwards=spent.forwards,
                score=judgement.score,
                detail=judgement.detail,
                seconds=time.monotonic() - started,
            )

        judgement = self.evaluate(prompt.text, prompt, spent)
        if judgement.hit:
            return ended(Status.HIT_WITHOUT_ATTACK, judgement)
        x0 = self.target(prompt)
        u = torch.full((self.slots, len(self.table)), 1 / len(self.table))
        optimiser = torch.optim.Adam([u], lr=RATE, weight_decay=DECAY)
        for t in self.timesteps:
            for _ in range(self.steps):
                self.step(u, optimiser, prompt, x0, t, generator)
                spent.steps += 1
                spent.forwards += 2
            inserted = u.argmax(dim=1).tolist()
            text = self.decode([*inserted, *self.body(prompt)])
            judgement = self.evaluate(text, prompt, spent)
            if judgement.hit:
                return ended(Status.HIT_UNDER_ATTACK, judgement, text, self.decode(inserted))
        return ended(Status.RESISTED, judgement)

    def step(
        self,
        u: torch.Tensor,
        optimiser: torch.optim.Optimizer,
        prompt: Prompt,
        x0: torch.Tensor,
        t: int,
        generator: torch.Generator,
    ) -> float:
        """One optimiser step on ``u`` (k, V), which stays on the simplex; returns the loss."""
        drawn = torch.multinomial(u, 1, generator=generator)
        one_hot = torch.zeros_like(u).scatter_(1, drawn, 1.0).requires_grad_(True)
        noise = torch.randn(x0.shape[1:], generator=generator, device=generator.device)[None]
        loss = self.loss(one_hot, prompt, x0, noise, t)
        torch.autograd.backward(loss)
        assert one_hot.grad is not None
        u.grad = torch.nn.functional.hardtanh(one_hot.grad)
        optimiser.step()
        for row in u:
            row.copy_(onto_simplex(row))
        return loss.item()

    def loss(
        self, one_hot: torch.Tensor, prompt: Prompt, x0: torch.Tensor, noise: torch.Tensor, t: int
    ) -> torch.Tensor:
        """Mean squared error of the predicted noise, with the chosen tokens before the prompt."""
        tokenizer, body = self.pipe.tokenizer, self.body(prompt)
        rest = tokenizer.model_max_length - 2 - self.slots - len(body)
        if rest < 0:
            raise ValueError(f"the prompt has {len(body)} tokens, too many beside {self.slots} more")
        after = self.table[[*body, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * rest]]
        embeddings = torch.cat([self.table[[tokenizer.bos_token_id]], one_hot @ self.table, after])[None]
        alpha = self.alphas[t]
        x_t = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        predicted = self.pipe.unet(x_t, t, encoder_hidden_states=self.states(embeddings)).sample
        return torch.nn.functional.mse_loss(predicted, noise)

    def states(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Text states (1, L, d) of token embeddings (1, L, d), which take the place of the encoder's own."""
        encoder = self.pipe.text_encoder
        replaced = encoder.get_input_embeddings().register_forward_hook(lambda *_: embeddings)
        try:
            ids = torch.zeros(embeddings.shape[:2], dtype=torch.int64, device=embeddings.device)
            states: torch.Tensor = encoder(ids)[0]
        finally:
            replaced.remove()
        return states

    @property
    def table(self) -> torch.Tensor:
        """Token embeddings (V, d)."""
        weight: torch.Tensor = self.pipe.text_encoder.get_input_embeddings().weight.detach()
        return weight

    def body(self, prompt: Prompt) -> list[int]:
        """Ids of the prompt's own tokens."""
        return list(self.pipe.tokenizer(prompt.text, add_special_tokens=False).input_ids)

    def decode(self, ids: list[int]) -> str:
        """Ids as text."""
        return str(self.pipe.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def target(self, prompt: Prompt) -> torch.Tensor:
        """Latent (1, C, h, w) of the image that the un-erased model draws."""
        image = draw(self.base, prompt.text, prompt.seed, TARGET_GUIDANCE, TARGET_STEPS, self.spacing)
        pixels = self.pipe.image_processor.preprocess(image)
        with torch.no_grad():
            mean: torch.Tensor = self.pipe.vae.encode(pixels).latent_dist.mean
        return mean * float(self.pipe.vae.config.scaling_factor)

    def evaluate(self, text: str, prompt: Prompt, spent: Spent) -> Judgement:
        """Draw the text, whether it was drawn before or not, and ask the judge."""
        image = draw(self.pipe, text, prompt.seed, prompt.guidance, self.sampling_steps, self.spacing)
        spent.evaluations += 1
        spent.forwards += 2 * self.sampling_steps
        return self.judge([image])[0]


def lms(pipe: Any, steps: int, spacing: str) -> Any:
    """LMS on a pipeline's noise schedule, ready for so many steps."""
    with library_warnings_ignored():
        scheduler = LMSDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing=spacing)
        scheduler.set_timesteps(steps)
    return scheduler


def onto_simplex(row: torch.Tensor) -> torch.Tensor:
    """Nearest point (V,) of the probability simplex, its threshold found by bisection."""
    low, high = float(row.min()) - 1, float(row.max())
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        if float((row - middle).clamp(0, 1).sum()) > 1:
            low = middle
        else:
            high = middle
    return (row - (low + high) / 2).clamp(0, 1)


@torch.no_grad()
def draw(pipe: Any, text: str, seed: int, guidance: float, steps: int, spacing: str = "linspace") -> Image.Image:
    """One image by LMS, the unconditional and the conditional prediction each in a call of its own."""
    scheduler = lms(pipe, steps, spacing)
    nothing, something = (_encode(pipe, words) for words in ("", text))
    size = pipe.unet.config.sample_size
    shape = (1, pipe.unet.config.in_channels, size, size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    latent = (noise * scheduler.init_noise_sigma).to(pipe.unet.device)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latent, t)
        without = pipe.unet(scaled, t, encoder_hidden_states=nothing).sample
        with_text = pipe.unet(scaled, t, encoder_hidden_states=something).sample
        latent = scheduler.step(without + guidance * (with_text - without), t, latent).prev_sample
    decoded = pipe.vae.decode(latent / pipe.vae.config.scaling_factor).sample
    pixels = ((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def _encode(pipe: Any, text: str) -> torch.Tensor:
    ids = pipe.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
    states: torch.Tensor = pipe.text_encoder(ids.to(pipe.text_encoder.device))[0]
    return states
