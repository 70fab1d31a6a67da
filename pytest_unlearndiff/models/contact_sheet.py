"""Images in rows with a caption each, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..core.errors import ReportError

_SIDE, _LINE, _ACROSS, _LETTERS = 128, 13, 6, 20


def write_contact_sheet(path: Path, entries: Sequence[tuple[Image.Image, str]]) -> None:
    """Write a PNG with every image, and its caption below it in at most three lines.

    Raises:
        ReportError: the file cannot be written.
    """
    cell = _SIDE + 3 * _LINE + 8
    rows = -(-len(entries) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * (_SIDE + 8), max(1, rows) * cell), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (image, caption) in enumerate(entries):
        left, top = index % _ACROSS * (_SIDE + 8), index // _ACROSS * cell
        sheet.paste(image.convert("RGB").resize((_SIDE, _SIDE)), (left, top))
        lines = [line[i : i + _LETTERS] for line in caption.split("\n") for i in range(0, len(line), _LETTERS)]
        draw.multiline_text((left + 2, top + _SIDE + 2), "\n".join(lines[:3]), fill="black", spacing=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format="PNG")
    except OSError as error:
        raise ReportError(f"contact sheet {path} cannot be written: {error}. Give another file") from None
