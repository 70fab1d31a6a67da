"""The field ``prompts`` of concept and gate files: a file, its columns and rows, and its origin."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .errors import ConceptError, ErrorCollector
from .prompt_columns import Columns, has_placeholder
from .prompt_files import PROMPT, read_table
from .prompt_sets import PromptSource, locate_prompt_set, read_prompt_file
from .untrusted import (
    MOST_COUNT,
    MOST_SEED,
    find_path,
    is_count,
    is_number,
    is_whole,
    parse_path,
    printable,
    short_repr,
    whole_form,
)
from .yaml_file import YamlFile

_COLUMNS = ("column", "seed", "guidance", "case", "header", "where", "template")
_PUBLISHED = ("published", "from", "rows", "sha256")
_FIELDS = ("file", *_COLUMNS, "split", "config", "rows", "sha256")
_MOST_GUIDANCE = 1_000
_MOST_TEMPLATES = 1_000

PublishedSets = Path | str | None
"""The user's folder or URL of prompt sets that authors publish and this project does not ship."""


def read_prompt_source(file: YamlFile, published: PublishedSets) -> PromptSource:
    """Read where the prompts are, and which columns count.

    Args:
        file: with a field ``prompts``: a file, a URL or a data set on the Hub; or a mapping with that as ``file`` and
            the choice of columns; or a published set.
        published: the user's folder or URL of published prompt sets.

    Raises:
        ConceptError: it is none of them; every error, one per line.
    """
    entry = file.data["prompts"]
    if isinstance(entry, str):
        return PromptSource(locate_prompt_set(entry, file.path.parent))
    if not isinstance(entry, dict):
        raise ConceptError(
            f"{file.at('prompts')}: prompts must name a file beside it, such as church.csv; found {short_repr(entry)}"
        )
    if "published" in entry:
        return _read_published(file, entry, published)
    errors = ErrorCollector()
    errors.collect(lambda: file.mapping("prompts", label="a prompt set", fields=_FIELDS, required=("file",)))
    errors += _pin_errors(file, entry)
    if "file" in entry and not isinstance(entry["file"], str):
        at, name = file.at("prompts", "file"), short_repr(entry["file"])
        errors.append(f"{at}: file={name} must be a path, a URL or owner/name")
    errors += _column_errors(file, entry)
    templates = errors.collect(lambda: _read_templates(file, entry.get("template", ())))
    errors.raise_if_any(ConceptError)
    location = _with_split(file, entry, locate_prompt_set(entry["file"], file.path.parent))
    columns = Columns(
        first_column(entry),
        entry.get("seed"),
        entry.get("guidance"),
        entry.get("case"),
        entry.get("header", True),
        {str(name): _cells(allowed) for name, allowed in entry.get("where", {}).items()},
        templates or (),
    )
    return PromptSource(location, columns, entry.get("sha256"), entry.get("rows"))


def first_column(entry: Mapping[str, Any]) -> str | None:
    """Return the column of prompts that an entry chooses, the first of several; None where it chooses none."""
    column = entry.get("column")
    return column[0] if isinstance(column, list) else column


def columns_of(entry: object) -> tuple[str, ...]:
    """Return the names of several columns that an entry chooses, each of which is a set; none where it does not."""
    column = entry.get("column") if isinstance(entry, dict) else None
    return tuple(column) if isinstance(column, list) and all(isinstance(name, str) for name in column) else ()


def _read_published(file: YamlFile, entry: Mapping[str, Any], published: PublishedSets) -> PromptSource:
    """Read an entry of a published set: the user's copy or, where there is none, the file that stands in for it."""
    fields = (*_PUBLISHED, "otherwise")
    file.mapping("prompts", label="a published prompt set", fields=fields, required=_PUBLISHED)
    if errors := list(_pin_errors(file, entry)):
        raise ConceptError("\n".join(errors))
    origin = str(entry["from"])
    if (own := entry.get("otherwise")) is not None:
        copy = _find_copy(file, str(entry["published"]), published) if isinstance(published, Path) else None
        if copy is None:
            return PromptSource(locate_prompt_set(str(own), file.path.parent))
        return PromptSource(copy, sha256=entry["sha256"], rows=entry["rows"], origin=origin)
    location = find_published(file, entry, published)
    return PromptSource(location, sha256=entry["sha256"], rows=entry["rows"], origin=origin)


def _pin_errors(file: YamlFile, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield errors in the number of rows and the SHA-256 that a prompt set must have."""
    if "rows" in entry and not is_count(rows := entry["rows"]):
        yield f"{file.at('prompts', 'rows')}: rows={short_repr(rows)} must be {whole_form(1, MOST_COUNT)}"
    sha256 = entry.get("sha256", "0" * 64)
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        yield f"{file.at('prompts', 'sha256')}: sha256={short_repr(sha256)} must be 64 hex digits in quotes"


def _column_errors(file: YamlFile, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield errors in the choice of columns and rows, of split and configuration."""
    name = "the name of a column"
    column, seed, guidance = (entry.get(field, "") for field in ("column", "seed", "guidance"))
    where = entry.get("where", {})
    forms: dict[str, tuple[bool, str]] = {
        "column": (isinstance(column, str) or bool(columns_of(entry)), f"{name}, or a list of names"),
        "seed": (isinstance(seed, str) or is_whole(seed, 0, MOST_SEED), f"{name}, or {whole_form(0, MOST_SEED)}"),
        "guidance": (
            isinstance(guidance, str) or is_number(guidance, -_MOST_GUIDANCE, _MOST_GUIDANCE),
            f"{name}, or a guidance scale such as 7.5",
        ),
        "case": (isinstance(entry.get("case", ""), str), name),
        "header": (isinstance(entry.get("header", True), bool), "true or false"),
        "where": (
            isinstance(where, dict) and all(_cells(allowed) for allowed in where.values()),
            "a mapping from columns to allowed cells, such as {categories: violence}",
        ),
        "split": (isinstance(entry.get("split", ""), str), "the name of a split, such as train"),
        "config": (isinstance(entry.get("config", ""), str), "the name of a configuration"),
    }  # fmt: skip
    for field, (good, form) in forms.items():
        if field in entry and not good:
            yield f"{file.at('prompts', field)}: {field}={short_repr(entry[field])} must be {form}"


def _cells(allowed: object) -> tuple[str, ...]:
    """Return allowed cells as text; none where they are neither texts nor numbers."""
    values = allowed if isinstance(allowed, list) else [allowed]
    if not all(isinstance(value, (str, int, float)) and not isinstance(value, bool) for value in values):
        return ()
    return tuple(map(str, values))


def _read_templates(file: YamlFile, entry: object) -> tuple[str, ...]:
    """Read a template, a list of them, or the text file that lists them.

    Raises:
        ConceptError: one has no place for a noun.
    """
    at = file.at("prompts", "template")
    templates = [entry] if isinstance(entry, str) else entry
    if not isinstance(templates, (list, tuple)) or not all(isinstance(template, str) for template in templates):
        raise ConceptError(f"{at}: template={short_repr(entry)} must be a text with {{}}, a list, or a *.txt file")
    if isinstance(entry, str) and not has_placeholder(entry) and entry.endswith(".txt"):
        try:
            path = parse_path(entry, file.path.parent)
        except ValueError as error:
            raise ConceptError(f"{at}: template={short_repr(entry)} {error}") from None
        templates = [row.cell(PROMPT) for row in read_table(read_prompt_file(path), str(path)).rows]
    if wrong := [template for template in templates if not has_placeholder(template)]:
        raise ConceptError(f"{at}: template {short_repr(wrong[0])} has no {{}} where each noun goes")
    if len(templates) > _MOST_TEMPLATES:
        raise ConceptError(f"{at}: {len(templates):,} templates, and at most {_MOST_TEMPLATES:,} are used")
    return tuple(templates)


def _with_split(file: YamlFile, entry: Mapping[str, Any], location: Path | str) -> Path | str:
    """Add split and configuration to the URL of a data set.

    Raises:
        ConceptError: it is no data set on the Hub.
    """
    chosen = {name: entry[name] for name in ("config", "split") if name in entry}
    if not chosen:
        return location
    if not isinstance(location, str) or not location.startswith("hf://datasets/"):
        raise ConceptError(
            f"{file.at('prompts', next(iter(chosen)))}: only a data set on the Hub, such as hf://datasets/OWNER/NAME, "
            f"has a {' and a '.join(chosen)}"
        )
    return f"{location}?{urlencode(chosen)}"


def find_published(file: YamlFile, entry: Mapping[str, Any], published: PublishedSets) -> Path | str:
    """Find the user's copy of a published file or folder, or its URL.

    Raises:
        ConceptError: it is not there; the message says where to get it.
    """
    name, origin = str(entry["published"]), entry["from"]
    if isinstance(published, str):
        return f"{published}/{name}"
    if published is not None and (path := _find_copy(file, name, published)) is not None:
        return path
    reason = f"{published} has none" if published is not None else "no folder with it is given"
    raise ConceptError(
        f"concept {file.path.name.removesuffix('.yaml')!r} needs {name}, which does not come with this project, and "
        f"{reason}: get it ({origin}) and give its folder with --unlearndiff-prompt-sets"
    )


def _find_copy(file: YamlFile, name: str, folder: Path) -> Path | None:
    try:
        return find_path(name, folder)
    except ValueError as error:
        raise ConceptError(f"{file.at()}: {folder}/{printable(name)} {error}") from None
