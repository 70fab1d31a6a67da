"""Content hashes of judges' files, without loading a judge."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..core.concept import JudgeConfig
from ..core.errors import JudgeError
from ..core.judge_options import parts_of
from ..core.registry import registry
from ..store.hashing import Fingerprints, digest


def judge_weights(config: JudgeConfig, fingerprints: Fingerprints) -> str:
    """Hash a judge's files to 16 hex digits; a Hub id stands for itself.

    Raises:
        JudgeError: the judge is a function whose module is not there.
        StoreError: a file cannot be read.
    """
    if parts := parts_of(config):
        return digest([judge_weights(part, fingerprints) for part in parts])
    info = registry().judges[config.kind]
    digests = [_hash(str(config.options[name]), fingerprints) for name in info.files if name in config.options]
    digests += [
        fingerprints.of(source_file(str(config.options[name]))) for name in info.sources if name in config.options
    ]
    if not digests:
        return (info.bundled or "")[:16]
    return digests[0] if len(digests) == 1 else digest(digests)


def _hash(name: str, fingerprints: Fingerprints) -> str:
    path = Path(name)
    return fingerprints.of(path) if path.exists() else name


def source_file(call: str) -> Path:
    """Find the file that defines ``package.module:function``, whose content stands for the function.

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
