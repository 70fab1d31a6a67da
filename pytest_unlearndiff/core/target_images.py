"""Target images of the user's, in the place of those that the un-erased model would draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .concept import Prompt
from .errors import ConceptError, one_line
from .yaml_file import YamlFile, fields_of

_ENDS = ("png", "jpg", "jpeg", "webp")


@dataclass(frozen=True)
class TargetImages:
    """Which images belong to which prompts.

    Attributes:
        at: where the concept file asks for them, for errors.
        beside: the concept file's folder.
        folder: in which they are; None for the prompt set's own, where a column names them.
        column: of the prompt set, which names them; None where they are named by case number: ``7.png``, or ``7_0.png``
            as upstream's ``generate_dataset`` writes them.
    """

    at: str
    beside: Path
    folder: Path | None = None
    column: str | None = None

    def of(self, rows: Sequence[tuple[Prompt, str]], prompts: Path | str) -> dict[str, str]:
        """Absolute paths by prompt digest.

        Args:
            rows: prompts, each with what its row has in the column.
            prompts: where the prompt set is.

        Raises:
            ConceptError: a prompt has no image, or two of one text, seed and guidance have different ones.
        """
        folder = self.folder or (prompts.parent if isinstance(prompts, Path) else self.beside)
        found: dict[str, str] = {}
        lacking = []
        for prompt, cell in rows:
            if (path := self._path(folder, prompt, cell)) is None:
                lacking.append(prompt.case if self.column is None or not cell else f"{prompt.case} ({cell!r:.80})")
            elif found.setdefault(prompt.digest, path) != path:
                raise ConceptError(
                    f"{self.at}: prompt {prompt.case} stands twice with text, seed and guidance, and has two images, "
                    f"{found[prompt.digest]} and {path}: name one"
                )
        if lacking:
            named = f"named in column {self.column}" if self.column is not None else f"such as {lacking[0]}.png"
            raise ConceptError(
                f"{self.at}: {len(lacking)} of {len(rows)} prompts have no target image in {folder}, the first "
                f"prompt {lacking[0]}: each needs one, {named}"
            )
        return found

    def _path(self, folder: Path, prompt: Prompt, cell: str) -> str | None:
        """The image of a prompt; None where there is none."""
        names = [cell] if self.column is not None else [f"{prompt.case}{n}.{e}" for n in ("", "_0") for e in _ENDS]
        return next((str((folder / name).resolve()) for name in names if name and (folder / name).is_file()), None)


def target_images(file: YamlFile) -> TargetImages | None:
    """What a concept file says of target images; None where it leaves them to the un-erased model.

    Raises:
        ConceptError: it is neither a folder, nor a mapping with one or with a column.
    """
    if (given := file.data.get("targets")) is None:
        return None
    at, beside = file.at("targets"), file.path.parent
    try:
        return _target_images(file, given, at, beside)
    except (OSError, ValueError) as error:  # a name that no file can have
        if isinstance(error, ConceptError):
            raise
        raise ConceptError(f"{at}: {one_line(error)}") from None


def _target_images(file: YamlFile, given: object, at: str, beside: Path) -> TargetImages:
    if not isinstance(given, str):
        given = fields_of(file, given, ("targets",), ("folder", "column"), (), "a place of target images")
        if not given or not all(isinstance(value, str) for value in given.values()):
            raise ConceptError(f"{at}: targets must be a folder, or have a column or a folder; found {given!r:.60}")
    folder, column = (given, None) if isinstance(given, str) else (given.get("folder"), given.get("column"))
    place = (beside / Path(folder).expanduser()).resolve() if folder is not None else None
    if place is not None and not place.is_dir():
        raise ConceptError(f"{at}: there is no folder of target images at {place}")
    return TargetImages(at, beside, place, column)
