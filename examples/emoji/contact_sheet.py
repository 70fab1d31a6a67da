"""A contact sheet: what the base, the erased and the attacked model draw for the same prompts and seeds.

``python contact_sheet.py`` draws ``contact_sheet.png`` from the broken prompts that ``victims.py`` found: one row a
prompt, and in it the base model's image, the victim's, and the victim's under the adversarial prompt.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw
from victims import EMOJI, attack, list_rows

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.outcome import Status
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import ModelSpec
from pytest_unlearndiff.store.store import Mode, Store

SIDE = 96
TEXT = 470
LINE = 13


def rows(path: Path, concept: str, count: int, prompts: int, parts: ModelCache) -> list[tuple[list[Image.Image], str]]:
    """The first broken prompts of a victim: three images and a caption each."""
    store = Store(EMOJI / ".unlearndiff", Mode.REQUIRE)
    row = next(row for row in list_rows() if row.path == path)
    result = attack(row, AttackConfig(), prompts, store, parts, 8)
    broken = result.ended(Status.HIT_UNDER_ATTACK)[:count]
    source, sampling = ModelSpec(path, EMOJI / "model"), Sampling(25, spacing="leading")
    base, victim = DiffusionModel(parts.base(source), sampling), DiffusionModel(parts.victim(source).pipe, sampling)
    plain = [GenerationRequest(prompt.text, prompt.seed, prompt.guidance) for prompt, _ in broken]
    found = [GenerationRequest(outcome.adversarial or "", prompt.seed, prompt.guidance) for prompt, outcome in broken]
    drawn = (base.generate(plain), victim.generate(plain), victim.generate(found))
    columns = [[each.image for each in column] for column in drawn]
    captions = [f"{path.name}, prompt {p.case}\n{p.text}\n{o.adversarial}\njudge: {o.detail}" for p, o in broken]
    return [(list(images), caption) for *images, caption in zip(*columns, captions, strict=True)]


def sheet(entries: list[tuple[list[Image.Image], str]]) -> Image.Image:
    """Images enlarged, captions beside them."""
    canvas = Image.new("RGB", (3 * SIDE + TEXT, LINE + 6 + SIDE * len(entries)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(("base", "erased", "attacked")):
        draw.text((column * SIDE + 4, 3), title, fill="black")
    for index, (images, caption) in enumerate(entries):
        top = LINE + 6 + index * SIDE
        for column, image in enumerate(images):
            canvas.paste(image.resize((SIDE - 2, SIDE - 2), Image.Resampling.NEAREST), (column * SIDE, top))
        draw.multiline_text((3 * SIDE + 8, top + 8), caption, fill="black", spacing=5)
    return canvas


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--victims", nargs="*", help="names in erased; all with broken prompts where none is given")
    parser.add_argument("--each", type=int, default=2, help="prompts a victim")
    parser.add_argument("--prompts", type=int, default=50, help="as given to victims.py")
    parser.add_argument("--out", type=Path, default=EMOJI / "contact_sheet.png")
    args = parser.parse_args()
    parts, entries = ModelCache(), []
    for row in list_rows():
        if not args.victims or row.path.name in args.victims:
            entries += rows(row.path, row.concept, args.each, args.prompts, parts)
    sheet(entries).save(args.out)
    print(f"{len(entries)} prompts in {args.out}")


if __name__ == "__main__":
    main()
