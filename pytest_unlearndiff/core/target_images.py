"""Target images of the user's, in the place of those that the un-erased model would draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .concept import Prompt
from .errors import ConceptError
from .untrusted import path_from, shown
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
                lacking.append(prompt.case if self.column is None or not cell else f"{prompt.case} ({shown(cell)})")
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
        try:
            paths = [path_from(name, folder, home=False) for name in names if name]
        except ValueError:  # a name that no file can have
            return None
        return next((str(path.resolve()) for path in paths if path.is_file()), None)


def target_images(file: YamlFile) -> TargetImages | None:
    """What a concept file says of target images; None where it leaves them to the un-erased model.

    Raises:
        ConceptError: it is neither a folder, nor a mapping with one or with a column.
    """
    if (given := file.data.get("targets")) is None:
        return None
    at, beside = file.at("targets"), file.path.parent
    if not isinstance(given, str):
        given = fields_of(file, given, ("targets",), ("folder", "column"), (), "a place of target images")
        if not given or not all(isinstance(value, str) for value in given.values()):
            raise ConceptError(f"{at}: targets must be a folder, or have a column or a folder; found {shown(given)}")
    folder, column = (given, None) if isinstance(given, str) else (given.get("folder"), given.get("column"))
    try:
        place = path_from(folder, beside).resolve() if folder is not None else None
    except ValueError as error:
        raise ConceptError(f"{at}: {shown(folder)} {error}") from None
    if place is not None and not place.is_dir():
        raise ConceptError(f"{at}: there is no folder of target images at {place}")
    return TargetImages(at, beside, place, column)
