"""A judge's configuration: its options checked, its files named, its parts, without loading any judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .concept import JudgeConfig
from .errors import JudgeError
from .info import Problem
from .registry import registry
from .untrusted import hint, parse_path, short_repr, special_file

MEASURE = "image-quality"
"""The judge that measures images of captions, and decides nothing."""


def key_kind(config: JudgeConfig) -> str:
    """Return the judge's name with its version, as it enters an outcome's key."""
    return f"{config.kind}@{registry().judges[config.kind].version}"


def parts_of(config: JudgeConfig) -> tuple[JudgeConfig, ...]:
    """Return the judges that this one combines; none where it judges itself."""
    if not registry().judges[config.kind].combines:
        return ()
    return tuple(
        JudgeConfig(str(data["kind"]), {name: value for name, value in data.items() if name != "kind"})
        for data in config.options["judges"]
    )


def with_parts(config: JudgeConfig, parts: tuple[JudgeConfig, ...]) -> JudgeConfig:
    """Return the same judge with other judges in it."""
    return JudgeConfig(
        config.kind, {**config.options, "judges": [{"kind": part.kind, **part.options} for part in parts]}
    )


def key_options(config: JudgeConfig) -> dict[str, Any]:
    """Return the options that enter an outcome's key as written: all but names of files, whose content counts."""
    if parts := parts_of(config):
        return {"judges": [{"kind": key_kind(part), **key_options(part)} for part in parts]}
    info = registry().judges[config.kind]
    options = {name: value for name, value in config.options.items() if name not in info.files}
    if sum(name in info.optional for name in info.files) > 1:  # their content alone does not say which of them it is
        options["files"] = [name for name in info.files if name in config.options]
    return options


def weights_of(config: JudgeConfig) -> tuple[str, ...]:
    """Return the files, folders and Hub ids that the judge's options name."""
    if parts := parts_of(config):
        return tuple(name for part in parts for name in weights_of(part))
    files = registry().judges[config.kind].files
    return tuple(str(config.options[name]) for name in files if name in config.options)


def on_base(config: JudgeConfig, base: Path | None) -> JudgeConfig:
    """Return the judge with the un-erased model as its ``model`` where it uses that and none is given.

    Raises:
        JudgeError: it does, and there is none.
    """
    if parts := parts_of(config):
        return with_parts(config, tuple(on_base(part, base) for part in parts))
    if not registry().judges[config.kind].uses_base or "model" in config.options:
        return config
    if base is None:
        raise JudgeError(
            f"judge {config.kind} judges with the un-erased model: give it with --unlearndiff-base, or as the judge's "
            "model"
        )
    return JudgeConfig(config.kind, {"model": str(base), **config.options})


def problems(kind: object, options: Mapping[str, Any], *, measures: bool = False) -> Iterator[Problem]:
    """Yield everything wrong with a judge's options, without loading it; the files they name are looked for.

    Args:
        kind: its name.
        options: as in the concept file.
        measures: whether it may be one that measures and decides nothing.
    """
    judges = registry().judges
    if not isinstance(kind, str) or kind not in judges:
        yield ("kind",), f"no judge {short_repr(kind)}: {hint(str(kind), judges)}"
        return
    info = judges[kind]
    if info.measures and not measures:
        yield ("kind",), f"judge {kind} measures images and decides nothing: it is for unlearndiff_quality alone"
        return
    checks = info.options
    for name in options:
        if name not in checks:
            yield (name,), f"judge {kind} has no option {short_repr(name)}: {hint(str(name), checks)}"
    for name in info.required:
        if name not in options:
            yield (), f"judge {kind} needs {name}; it takes {', '.join(checks)}"
    for name in [name for name in options if name in checks]:
        if problem := checks[name](options[name]):
            yield (name,), f"{name} {problem}"
        elif name in info.files and (problem := _missing(options[name])):
            yield (name,), f"{name}: {problem}"
        elif info.combines and name == "judges":
            for index, part in enumerate(options["judges"]):
                for path, problem in problems(part.get("kind"), {k: v for k, v in part.items() if k != "kind"}):
                    yield ("judges", index, *path), problem
    if info.check is not None and {*info.required} <= {*options}:
        yield from info.check(options)


def check(config: JudgeConfig) -> None:
    """Refuse a judge that cannot be built.

    Raises:
        JudgeError: names the first problem.
    """
    for _, problem in problems(config.kind, config.options, measures=True):
        raise JudgeError(problem)


def _missing(name: str) -> str | None:
    """Say why a name leads to no file or folder; None where it does, or is that of a Hub repository."""
    try:
        path = parse_path(name, Path())
    except ValueError as error:
        return f"{short_repr(name)} {error}"
    if special := special_file(path):
        return f"{path} is {special}, neither a file nor a folder"
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith(".") and not path.parent.is_dir()
    if path.exists() or hub:
        return None
    parent = path.parent
    near = (
        hint(path.name, [sibling.name for sibling in parent.iterdir()])
        if parent.is_dir()
        else f"{parent} is not there either"
    )
    return f"there is nothing at {path}: {near}"
