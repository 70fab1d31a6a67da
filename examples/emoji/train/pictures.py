"""Fetch the emoji of four styles from the npm registry and keep the sprites this world needs.

``python pictures.py`` writes ``sprites.npz``: one RGBA sprite a member and style, and ``words.txt``: the names of
all emoji, for the tokenizer's vocabulary. Needs npm, and Debian's ``libcairo2`` for the two SVG styles.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from catalog import OBJECTS, PACKAGES, STYLES, archive_path
from common import parser
from PIL import Image
from tqdm import tqdm

SPRITE = 128


def fetch(package: str, folder: Path) -> Path:
    """Download one npm package unless it is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / (package.replace("@", "-") + ".tgz")
    if not archive.exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return archive


def rasterise(data: bytes, name: str) -> Image.Image:
    """An RGBA sprite of SPRITE x SPRITE pixels from PNG or SVG bytes."""
    if name.endswith(".svg"):
        import cairosvg

        data = cairosvg.svg2png(bytestring=data, output_width=SPRITE, output_height=SPRITE)
    return Image.open(io.BytesIO(data)).convert("RGBA").resize((SPRITE, SPRITE), Image.Resampling.LANCZOS)


def main() -> None:
    """Write sprites.npz and words.txt."""
    args = parser(__doc__, steps=0).parse_args()
    sprites: dict[str, np.ndarray] = {}
    for style in tqdm(STYLES, desc="styles"):
        with tarfile.open(fetch(PACKAGES[style], args.work / "npm")) as archive:
            for name, members in OBJECTS.items():
                for index, member in enumerate(members):
                    path = archive_path(style, member)
                    file = archive.extractfile(path)
                    if file is None:
                        raise FileNotFoundError(f"{PACKAGES[style]} has no {path}")
                    sprites[f"{name}/{index}/{style}"] = np.asarray(rasterise(file.read(), path))
            if style == "noto":
                listing = archive.extractfile("package/emoji.json")
                assert listing is not None
                names = [str(entry["name"]).lower() for entry in json.load(listing) if entry["name"]]
    np.savez_compressed(args.work / "sprites.npz", **sprites)
    words = sorted({word for name in names for word in name.split() if word.isascii() and word.isalpha()})
    (args.work / "words.txt").write_text("\n".join(words) + "\n")
    print(f"{len(sprites)} sprites, {len(words)} words in {args.work}")


if __name__ == "__main__":
    main()
