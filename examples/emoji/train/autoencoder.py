"""Train the autoencoder: 64x64 pictures to 4x16x16 latents and back.

``python autoencoder.py`` writes ``../model/vae`` and the encoded data set ``latents.pt``. The loss is L1 + 0.5 MSE, a
tiny KL term, and a perceptual term on the features of a classifier trained for this alone (not a judge that ships).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from catalog import OBJECTS, STYLES
from common import JUDGE, MODEL, cosine, load_checkpoint, parser, record_figures, save_checkpoint, step_generator
from compose import SIZE, World
from diffusers import AutoencoderKL
from judge import HELD_OUT_SEED, normalise
from judge import accuracy as judge_accuracy
from judge import train as train_classifier
from tqdm import tqdm
from transformers import AutoModelForImageClassification

BATCH = 8
EXAMPLES = 24_576
LEARNING_RATE = 1.5e-3


def build() -> AutoencoderKL:
    """The autoencoder: three levels, four latent channels, no attention."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def perceptual_network(pictures: np.ndarray, labels: list[Any], args: Any) -> Any:
    """A classifier of (object, style) pairs whose features measure how alike two pictures look."""
    pairs = tuple(f"{name} {style}" for name in OBJECTS for style in STYLES)
    wanted = torch.tensor([label.object * len(STYLES) + label.style for label in labels])
    own = type(args)(**{**vars(args), "steps": 500, "seed": args.seed + 1})
    network = train_classifier("perceptual", pairs, (pictures, wanted), own)
    return network.eval().requires_grad_(False)


def perceptual(network: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of channel-normalised features over the first three stages."""
    loss = torch.zeros(())
    states = [network.resnet(x, output_hidden_states=True).hidden_states[1:4] for x in (a, b)]
    for first, second in zip(*states, strict=True):
        loss = loss + (F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean()
    return loss


def train(pictures: np.ndarray, network: Any, args: Any) -> AutoencoderKL:
    """Train the autoencoder, or take it up again where a killed run left it."""
    torch.manual_seed(args.seed)
    vae = build()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    path = args.work / "vae.pt"
    start = 0
    if (saved := load_checkpoint(path)) is not None:
        vae.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        start = saved["step"]
    bar = tqdm(range(start, args.steps), initial=start, total=args.steps, desc="autoencoder")
    for step in bar:
        generator = step_generator(args.seed, step)
        pick = torch.randint(len(pictures), (BATCH,), generator=generator)
        x = normalise(pictures[pick.numpy()])
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        y = vae.decode(posterior.mean + posterior.std * noise).sample
        loss = (y - x).abs().mean() + 0.5 * F.mse_loss(y, x) + 1e-6 * posterior.kl().mean()
        loss = loss + 0.1 * perceptual(network, y, x)
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * cosine(step, args.steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            state = {"model": vae.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            save_checkpoint(path, state)
    return vae.eval()


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray) -> torch.Tensor:
    """Mean latents (N, 4, 16, 16), not yet scaled."""
    parts = np.array_split(pictures, max(1, len(pictures) // 256))
    return torch.cat([vae.encode(normalise(part)).latent_dist.mean for part in tqdm(parts, desc="encode")])


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    """Encode and decode uint8 pictures."""
    y = torch.cat([vae.decode(encode(vae, part)).sample for part in np.array_split(pictures, 8)])
    return ((y.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def main() -> None:
    """Train, check with the judges on reconstructions, save, and encode the data set for the diffusion model."""
    args = parser(__doc__, steps=3600).parse_args()
    world = World(args.work)
    pictures, labels = world.dataset(EXAMPLES, args.seed)
    vae = train(pictures, perceptual_network(pictures, labels, args), args)
    unseen, unseen_labels = world.dataset(1_000, HELD_OUT_SEED)
    copies = reconstruct(vae, unseen)
    figures: dict[str, Any] = {"steps": args.steps}
    figures["mean_absolute_error_of_255"] = round(float(np.abs(copies.astype(float) - unseen).mean()), 2)
    for kind in ("object", "style"):
        judge = AutoModelForImageClassification.from_pretrained(JUDGE / kind, dtype=torch.float32)
        wanted = torch.tensor([getattr(label, kind) for label in unseen_labels])
        figures[f"{kind}_accuracy_on_reconstructions"] = round(judge_accuracy(judge, copies, wanted), 4)
    latents = encode(vae, pictures)
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    shown = torch.tensor([[label.object, label.member, label.style, label.colour] for label in labels])
    torch.save({"latents": latents * vae.config.scaling_factor, "labels": shown}, args.work / "latents.pt")
    vae.half().save_pretrained(MODEL / "vae")
    record_figures("autoencoder", figures)


if __name__ == "__main__":
    main()
