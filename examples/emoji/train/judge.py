"""Train the two judges (objects, styles) as ``transformers`` image-classification models.

``python judge.py`` writes ``../judge/object`` and ``../judge/style``: small ResNets with an image processor, so that
``AutoModelForImageClassification`` and the plugin's ``image-classifier`` judge load them like any other.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from catalog import OBJECTS, STYLES
from common import JUDGE, cosine, load_checkpoint, parser, record_figures, save_checkpoint, step_generator
from compose import SIZE, World
from tqdm import tqdm
from transformers import ResNetConfig, ResNetForImageClassification

BATCH = 64
HELD_OUT_SEED = 77


def build(labels: tuple[str, ...]) -> ResNetForImageClassification:
    """A ResNet of four basic-block stages for SIZE-pixel pictures."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=24,
            hidden_sizes=[24, 48, 96, 128],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            downsample_in_first_stage=False,
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
        )
    )


def normalise(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1], as the saved image processor does."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur, noise and brightness, so that the judge looks at shapes and not at a decoder's texture."""
    size = int(torch.randint(SIZE // 2, SIZE + 1, (1,), generator=generator))
    x = F.interpolate(F.interpolate(x, size, mode="bilinear", antialias=True), SIZE, mode="bilinear")
    x = x * (0.85 + 0.3 * torch.rand((len(x), 1, 1, 1), generator=generator))
    return x + 0.1 * torch.rand((len(x), 1, 1, 1), generator=generator) * torch.randn(x.shape, generator=generator)


def accuracy(model: Any, pictures: np.ndarray, wanted: torch.Tensor) -> float:
    """Share of pictures whose top-1 label is the wanted one."""
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(normalise(part)).logits.argmax(1) for part in np.array_split(pictures, 20)])
    return float((found == wanted).float().mean())


def train(kind: str, labels: tuple[str, ...], data: tuple[np.ndarray, torch.Tensor], args: Any) -> Any:
    """Train one judge, or take it up again where a killed run left it."""
    torch.manual_seed(args.seed)
    model = build(labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    path = args.work / f"judge-{kind}.pt"
    start = 0
    if (saved := load_checkpoint(path)) is not None:
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        start = saved["step"]
    pictures, wanted = data
    bar = tqdm(range(start, args.steps), initial=start, total=args.steps, desc=f"judge {kind}")
    for step in bar:
        model.train()
        generator = step_generator(args.seed, step)
        pick = torch.randint(len(wanted), (BATCH,), generator=generator)
        x = augment(normalise(pictures[pick.numpy()]), generator)
        loss = F.cross_entropy(model(x).logits, wanted[pick], label_smoothing=0.05)
        optimiser.param_groups[0]["lr"] = 2e-3 * cosine(step, args.steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            save_checkpoint(path, state)
    return model


def save(model: Any, folder: Any) -> None:
    """Write weights in half precision with the image processor beside them."""
    model.half().save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": SIZE, "width": SIZE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")


def main() -> None:
    """Train both judges and record their accuracy on held-out pictures."""
    args = parser(__doc__, steps=1200).parse_args()
    world = World(args.work)
    pictures, labels = world.dataset(12_000, args.seed)
    unseen, unseen_labels = world.dataset(2_000, HELD_OUT_SEED)
    figures: dict[str, Any] = {"steps": args.steps, "held_out_pictures": len(unseen)}
    for kind, names in (("object", tuple(OBJECTS)), ("style", STYLES)):
        wanted = torch.tensor([getattr(label, kind) for label in labels])
        model = train(kind, names, (pictures, wanted), args)
        score = accuracy(model, unseen, torch.tensor([getattr(label, kind) for label in unseen_labels]))
        figures[f"{kind}_accuracy"] = round(score, 4)
        save(model, JUDGE / kind)
    record_figures("judge", figures)


if __name__ == "__main__":
    main()
