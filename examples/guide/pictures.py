"""Draw the pictures of the guide with the emoji model: ``python examples/guide/pictures.py`` (a minute of a CPU core).

It prints the numbers that ``docs/method.md`` quotes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.checkpoint import read_checkpoint
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.loading import load_victim
from pytest_unlearndiff.models.pipeline_folders import load_pipeline

GUIDE = Path(__file__).resolve().parent
EMOJI = GUIDE.parent / "emoji"
SAMPLING = Sampling(scheduler="lms", spacing="leading", steps=25)
PROMPT = "a fish in noto style on a white background"
BROKEN = f"nesia angelfish u {PROMPT}"
"""What the attack found for the first prompt of the demo's second gate."""
OTHER = "a tree in noto style on a white background"
SEED = 3000
SHARES = (0.2, 0.5, 0.8)
SIDE, GAP, LINE = 128, 12, 16
INK, PAPER, BASE, ERASED = "#1d2229", "#ffffff", "#545c68", "#b3261e"


def main() -> None:
    """Draw all pictures."""
    base = DiffusionModel(load_pipeline(EMOJI / "model"), SAMPLING)
    erased = DiffusionModel(load_erased(), SAMPLING)
    target = draw(base, PROMPT)
    images = GUIDE / "docs" / "images"
    noised(base, target).quantize(128).save(images / "target.png", optimize=True)
    three = strip([("base", target), ("erased", draw(erased, PROMPT)), ("erased, attacked", draw(erased, BROKEN))])
    three.quantize(128).save(images / "broken.png", optimize=True)
    rows = [(text, error(base, target, text), error(erased, target, text)) for text in (PROMPT, OTHER, BROKEN)]
    for text, *errors in rows:
        print(f"{text:64} base {errors[0]:.4f}  erased {errors[1]:.4f}")
    bars(rows).quantize(16).save(images / "classifier.png")


def load_erased() -> object:
    """Load the checkpoint that UCE edited."""
    checkpoint = read_checkpoint(EMOJI / "erased" / "uce-fish.safetensors")
    return load_victim(checkpoint, load_pipeline(EMOJI / "model")).pipe


def draw(model: DiffusionModel, text: str) -> Image.Image:
    """Draw a text with the seed and guidance of the first prompt of the set."""
    return model.generate([GenerationRequest(text, SEED, 5.0)])[0].image


@torch.no_grad()
def error(model: DiffusionModel, target: Image.Image, text: str) -> float:
    """Return the denoising error of the target image under a text, averaged over 16 timesteps and noises."""
    count = 16
    latents = model.encode_images([target]).expand(count, -1, -1, -1)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([model.timestep((2 * i + 1) / (2 * count)) for i in range(count)])
    return float(model.denoising_error(latents, noise, t, model.encode_prompts([text] * count)).mean())


@torch.no_grad()
def noised(model: DiffusionModel, target: Image.Image) -> Image.Image:
    """Draw the target image and what is left of it at three timesteps."""
    latents = model.encode_images([target])
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    autoencoder = load_pipeline(EMOJI / "model")
    shown = [("target image", target)]
    for share in SHARES:
        noisy, _ = model.add_noise(latents, noise, torch.tensor([model.timestep(share)]))
        decoded = autoencoder.vae.decode(noisy / autoencoder.vae.config.scaling_factor).sample
        shown.append((f"noise at t = {share:g} T", autoencoder.image_processor.postprocess(decoded)[0]))
    return strip(shown)


def strip(shown: list[tuple[str, Image.Image]]) -> Image.Image:
    """Place images side by side, each under its title."""
    sheet = Image.new("RGB", (len(shown) * (SIDE + GAP) - GAP, SIDE + LINE + 4), PAPER)
    for number, (title, image) in enumerate(shown):
        left = number * (SIDE + GAP)
        ImageDraw.Draw(sheet).text((left, 0), title, INK, font())
        sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, LINE + 4))
    return sheet


def bars(rows: list[tuple[str, float, float]]) -> Image.Image:
    """Draw the errors of both models as bars."""
    height, width, start = 50, 420, 0
    most = max(value for _, *values in rows for value in values)
    sheet = Image.new("RGB", (width + 70, len(rows) * height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (text, *values) in enumerate(rows):
        top = number * height
        pen.text((start, top), text, INK, font())
        for place, (value, name, colour) in enumerate(zip(values, ("base", "erased"), (BASE, ERASED), strict=True)):
            y, length = top + LINE + 2 + place * 14, round((width - 60) * value / most)
            pen.rectangle((start, y, length, y + 10), colour)
            pen.text((length + 4, y - 2), f"{name} {value:.3f}", INK, font(10))
    return sheet


def font(size: int = 12) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font."""
    return ImageFont.load_default(size)


if __name__ == "__main__":
    main()
