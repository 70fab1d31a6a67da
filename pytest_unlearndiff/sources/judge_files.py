"""Content hash of what a judge judges with, without loading it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..core.concept import JudgeConfig
from ..core.errors import JudgeError
from ..core.judge_options import parts_of
from ..core.registry import registry
from ..store.hashing import Fingerprints, digest


def judge_weights(spec: JudgeConfig, fingerprints: Fingerprints) -> str:
    """Hash of a judge's files, in 16 hex digits; a Hub id stands for itself.

    Raises:
        JudgeError: the judge is a function whose module is not there.
        StoreError: a file cannot be read.
    """
    if parts := parts_of(spec):
        return digest([judge_weights(part, fingerprints) for part in parts])
    info = registry().judges[spec.kind]
    digests = [_hash(str(spec.options[name]), fingerprints) for name in info.files if name in spec.options]
    digests += [fingerprints.of(source_file(str(spec.options[name]))) for name in info.sources if name in spec.options]
    if not digests:
        return (info.bundled or "")[:16]
    return digests[0] if len(digests) == 1 else digest(digests)


def _hash(name: str, fingerprints: Fingerprints) -> str:
    path = Path(name)
    return fingerprints.of(path) if path.exists() else name


def source_file(call: str) -> Path:
    """The file that defines ``package.module:function``; its content stands for what the function does.

    Raises:
        JudgeError: there is no such module, or it is not a file.
    """
    module = call.partition(":")[0]
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise JudgeError(f"judge function {call}: there is no file of a module {module!r} on Python's path")
    return Path(spec.origin)
