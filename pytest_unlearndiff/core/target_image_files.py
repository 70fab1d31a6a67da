"""Target images that a concept file brings: which file is whose prompt's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .concept import Prompt
from .errors import ConceptError
from .prompt_files import Row
from .untrusted import parse_path, short_repr
from .yaml_file import YamlFile

_IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp")


@dataclass(frozen=True)
class TargetImageFiles:
    """The user's target images, instead of ones that the un-erased model generates.

    Attributes:
        at: line of the concept file that asks for them, for errors.
        concept_folder: the concept file's folder.
        folder: the images' folder; None for the prompt set's own, if a column names the images.
        column: column of the prompt set that names them; None if they are named by case number: ``7.png``, or
            ``7_0.png`` as upstream's ``generate_dataset`` writes them.
    """

    at: str
    concept_folder: Path
    folder: Path | None = None
    column: str | None = None

    def match(self, rows: Sequence[tuple[Prompt, Row]], location: Path | str) -> dict[str, str]:
        """Find every prompt's image.

        Args:
            rows: prompts, each with its row of the prompt set.
            location: of the prompt set.

        Returns:
            Absolute paths by prompt digest.

        Raises:
            ConceptError: a prompt has no image, or two of one text, seed and guidance have different ones.
        """
        folder = self.folder or (location.parent if isinstance(location, Path) else self.concept_folder)
        images: dict[str, str] = {}
        missing = []
        for prompt, row in rows:
            cell = row.cell(self.column or "")
            if (path := self._find(folder, prompt, cell)) is None:
                named = self.column is not None and cell
                missing.append(f"{prompt.case} ({short_repr(cell)})" if named else str(prompt.case))
            elif images.setdefault(prompt.digest, path) != path:
                raise ConceptError(
                    f"{self.at}: prompt {prompt.case} stands twice with text, seed and guidance, and has two images, "
                    f"{images[prompt.digest]} and {path}: name one"
                )
        if missing:
            remedy = f"named in column {self.column}" if self.column is not None else f"such as {missing[0]}.png"
            raise ConceptError(
                f"{self.at}: {len(missing)} of {len(rows)} prompts have no target image in {folder}, the first "
                f"prompt {missing[0]}: each needs one, {remedy}"
            )
        return images

    def _find(self, folder: Path, prompt: Prompt, cell: str) -> str | None:
        by_case = [f"{prompt.case}{number}.{suffix}" for number in ("", "_0") for suffix in _IMAGE_SUFFIXES]
        names = by_case if self.column is None else [cell] if cell else []
        try:
            paths = [parse_path(name, folder, home=False) for name in names]
        except ValueError:  # a name that no file can have
            return None
        return next((str(path.resolve()) for path in paths if path.is_file()), None)


def read_targets(file: YamlFile) -> TargetImageFiles | None:
    """Read which target images a concept brings; None if the un-erased model generates them.

    Raises:
        ConceptError: it is neither a folder, nor a mapping with a folder or a column.
    """
    if (targets := file.data.get("targets")) is None:
        return None
    at, concept_folder = file.at("targets"), file.path.parent
    if isinstance(targets, str):
        targets = {"folder": targets}
    else:
        targets = file.mapping("targets", label="a place of target images", fields=("folder", "column"))
        if not targets or not all(isinstance(value, str) for value in targets.values()):
            raise ConceptError(
                f"{at}: targets must be a folder, or have a column or a folder; found {short_repr(targets)}"
            )
    folder = None
    if (name := targets.get("folder")) is not None:
        try:
            folder = parse_path(name, concept_folder).resolve()
        except ValueError as error:
            raise ConceptError(f"{at}: {short_repr(name)} {error}") from None
        if not folder.is_dir():
            raise ConceptError(f"{at}: there is no folder of target images at {folder}")
    return TargetImageFiles(at, concept_folder, folder, targets.get("column"))
