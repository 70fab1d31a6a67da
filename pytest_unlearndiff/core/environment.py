"""The environment a result was computed in, for reports; none of it is part of a key."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def environment_info(*packages: str) -> dict[str, Any]:
    """Collect Python, machine and the versions of packages, as builtin types."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed as a package"
