"""Files of data sets on the Hugging Face Hub: by name, or by configuration and split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from ..core.errors import ConceptError, redact_url
from ..core.prompt_files import SUFFIXES
from ..core.untrusted import CSV_BYTES, hint, read_bytes

_DATASET = re.compile(
    r"hf://datasets/(?P<repo>[^/@?]+/[^/@?]+)(?:@(?P<revision>[^/?]+))?(?:/(?P<file>[^?]+))?(?:\?(?P<chosen>.*))?"
)
_CARD = "README.md"
_DATA = tuple(suffix for suffix in SUFFIXES if suffix != ".txt")
_ABOUT = ("dataset_infos.json", "dataset_dict.json", "state.json")
_NAMED = 5


def fetch_from_hub(url: str) -> bytes:
    """Read a file of a data set through the Hub's own cache, which also serves without a network.

    Args:
        url: ``hf://datasets/OWNER/NAME[@REVISION][/FILE][?config=CONFIG&split=SPLIT]``. Without a file, it is the only
            CSV file of the data set, or the only file of the configuration and the split: as the data set's card lists
            them, or else by the names of its files.

    Raises:
        ConceptError: it names no file, or several.
        ValueError: the file is larger than prompt sets are.
    """
    from huggingface_hub import HfApi, hf_hub_download

    if (match := _DATASET.fullmatch(url)) is None:
        raise ConceptError(
            f"{redact_url(url)} is no file of a data set on the Hub, such as hf://datasets/OWNER/NAME/prompts.csv"
        )
    repo, revision, file = match["repo"], match["revision"], match["file"]
    if file is None:
        chosen = {name: values[0] for name, values in parse_qs(match["chosen"] or "").items()}
        names = HfApi().list_repo_files(repo, repo_type="dataset", revision=revision)
        card = None
        if chosen and _CARD in names:
            card = Path(hf_hub_download(repo, _CARD, repo_type="dataset", revision=revision))
        place = redact_url(url)
        file = _only_file(place, names, chosen, _configs(card) if card is not None else [])
    return read_bytes(Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision)), CSV_BYTES)


def _configs(card: Path) -> list[dict[str, Any]]:
    """Return the configurations that a data set's card lists; empty where it lists none."""
    from huggingface_hub.repocard import metadata_load

    configs = (metadata_load(card) or {}).get("configs")
    return [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []


def _only_file(place: str, names: Sequence[str], chosen: dict[str, str], configs: Sequence[dict[str, Any]]) -> str:
    """Return the one file that holds the prompts.

    Raises:
        ConceptError: there is none, or several.
    """
    data = sorted(name for name in names if name.endswith(_DATA) and Path(name).name not in _ABOUT)
    if not chosen:
        files = [name for name in data if name.endswith(".csv")]
    elif configs:
        patterns = list(_patterns(place, configs, chosen))
        files = [name for name in data if any(fnmatch(name, pattern) for pattern in patterns)]
    else:
        files = [name for name in data if all(_has_word(name, word) for word in chosen.values())]
    if len(files) == 1:
        return files[0]
    kind = f"with {' and '.join(f'{name} {word}' for name, word in chosen.items())}" if chosen else "in CSV"
    candidates = files or data or ["prompts.csv"]
    number = f"{len(files)} files" if files else "no file"
    raise ConceptError(
        f"{place} has {number} {kind}: name the file, as in {place}/{candidates[0]}"
        + (f"; there are {', '.join(candidates[:_NAMED])}" if len(candidates) > 1 else "")
    )


def _patterns(place: str, configs: Sequence[dict[str, Any]], chosen: dict[str, str]) -> Iterator[str]:
    """Yield the patterns of the files of a configuration and a split.

    Raises:
        ConceptError: the card has no such configuration or split, or several of either and none is chosen.
    """
    named = {str(config.get("config_name", "default")): config for config in configs}
    default = [name for name, config in named.items() if config.get("default") is True or name == "default"]
    wanted = chosen.get("config") or ([*default, *named] if default or len(named) == 1 else [""])[0]
    if wanted not in named:
        raise ConceptError(f"{place} has no config {wanted!r}: {hint(wanted, named)}")
    entries = named[wanted].get("data_files", [])
    splits: dict[str, list[str]] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        fields = entry if isinstance(entry, dict) else {"path": entry}
        paths = fields.get("path", [])
        of_split = splits.setdefault(str(fields.get("split", "train")), [])
        of_split += map(str, paths if isinstance(paths, list) else [paths])
    split = chosen.get("split") or ([*splits] if len(splits) == 1 else [""])[0]
    if split not in splits:
        raise ConceptError(f"{place} has no split {split!r} in config {wanted!r}: {hint(split, splits)}")
    yield from splits[split]


def _has_word(name: str, word: str) -> bool:
    """Tell whether a file's path has a word between its separators, as ``data/train-00000-of-00001.csv`` has train."""
    return word in re.split(r"[/._-]", name) or word in Path(name).parts or Path(name).stem == word
