"""Places that other libraries reach: whatever these raise becomes one error that names the place and the mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import UnlearnDiffError, one_line


@contextmanager
def reaching(what: str, verb: str, mend: str, kind: type[UnlearnDiffError]) -> Iterator[None]:
    """Reach a place; errors of this project pass as they are.

    Args:
        what: the place, for people.
        verb: what is done with it, such as ``read``.
        mend: what to do where that fails.
        kind: of the error.

    Raises:
        UnlearnDiffError: of that kind: it cannot be reached, or a package is missing.
    """
    try:
        yield
    except UnlearnDiffError:
        raise
    except ImportError as error:  # fsspec says itself which package a place needs
        name = error.name
        raise kind(f"{what} needs {name}: pip install {name}" if name else f"{what}: {one_line(error)}") from None
    except Exception as error:
        raise kind(f"{what} cannot be {verb}: {type(error).__name__}: {one_line(error)}. {mend}") from None
