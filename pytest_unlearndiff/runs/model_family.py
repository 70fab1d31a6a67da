"""The family of a model under test, by the names in its files, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.family_fit import ModelFamily
from ..core.untrusted import read_json
from ..models.families.lookup import family_named, family_of_class
from ..sources.model_header import INDEX, inspect_model


def family_of_folders(*folders: Path | None) -> ModelFamily | None:
    """Return the family of the first pipeline folder among these; None where none is, or its family is unknown."""
    folder = next((each for each in folders if each is not None and (each / INDEX).is_file()), None)
    if folder is None or (info := family_named(inspect_model(folder).pipeline)) is None:
        return None
    return ModelFamily(info, {**_settings(folder / INDEX), **_settings(folder / info.network / "config.json")})


def _settings(file: Path) -> Mapping[str, object]:
    try:
        settings = read_json(file)
    except (OSError, ValueError):  # as loading it will say
        settings = {}
    return settings if isinstance(settings, Mapping) else {}


def family_of_object(pipe: Any) -> ModelFamily | None:
    """Return the family of a pipeline object; None where it is unknown."""
    info = family_of_class(type(pipe))
    if info is None:
        return None
    return ModelFamily(info, {**pipe.config, **getattr(getattr(pipe, info.network, None), "config", {})})
