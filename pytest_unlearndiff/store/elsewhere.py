"""Places that other libraries reach: whatever these raise becomes one error that names the place and the mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from ..core.errors import UnlearnDiffError, one_line

_NAMED_AT = ("git", "github")
"""Schemes in which what stands before an ``@`` is a repository and not a person with a password."""


def shown(url: str) -> str:
    """A URL without what may let others in: a name and a password, a signature."""
    return "::".join(map(_shown, url.split("::")))


def _shown(url: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc if parts.scheme in _NAMED_AT else parts.netloc.rpartition("@")[2]
    # Not put together again where nothing was taken out: file:///x and plain paths stay as they are.
    return url if (place, parts.query) == (parts.netloc, "") else urlunsplit((parts.scheme, place, parts.path, "", ""))


@contextmanager
def reaching(url: str, verb: str, mend: str, kind: type[UnlearnDiffError], *, what: str = "") -> Iterator[None]:
    """Reach a place; errors of this project pass as they are.

    Args:
        url: the place; what may let others in is not told.
        verb: what is done with it, such as ``read``.
        mend: what to do where that fails.
        kind: of the error.
        what: the place is, for people.

    Raises:
        UnlearnDiffError: of that kind: it cannot be reached, or a package is missing.
    """
    place = f"{what} {shown(url)}".lstrip()

    def said(error: Exception) -> str:
        return one_line(error).replace(url, shown(url))

    try:
        yield
    except UnlearnDiffError:
        raise
    except ImportError as error:  # fsspec says itself which package a place needs
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        reason = f" needs {missing}: pip install {missing}" if missing else f": {said(error)}"
        raise kind(f"{place}{reason}") from None
    except Exception as error:
        raise kind(f"{place} cannot be {verb}: {type(error).__name__}: {said(error)}. {mend}") from None
