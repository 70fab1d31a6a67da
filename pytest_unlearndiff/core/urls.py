"""Places that other libraries reach: whatever these raise becomes one error that names the place and the mend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, quote

from .errors import UnlearnDiffError, one_line

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<place>[^/?\s]*)(?P<path>[^?\s]*)(?P<query>\?\S*)?")
_NEXT = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
"""Between a place and what it lies in: ``zip://m.pt::https://host/a.zip``."""
_OF_PEOPLE = ("http", "https", "ftp", "ftps", "sftp", "ssh", "webdav", "webdavs", "smb")
"""Schemes in which a person may stand before an ``@``; elsewhere only one with a password is taken for one."""
_NAMED_AT = ("git", "github")
"""Schemes in which what stands there is a repository, whatever it looks like."""


def shown(url: str) -> str:
    """A URL without what may let others in: a name and a password, a signature."""
    return "::".join(_URL.sub(_without_secrets, part.partition("?")[0]) for part in _NEXT.split(url))


def _without_secrets(url: re.Match[str]) -> str:
    scheme = url["scheme"].lower()
    who, _, host = url["place"].rpartition("@")
    person = scheme in _OF_PEOPLE or (":" in who and scheme not in _NAMED_AT)
    return f"{url['scheme']}://{host if person else url['place']}{url['path']}"


def _said(error: Exception, url: str) -> str:
    """What an exception says of a place, in one line and without what may let others in.

    Libraries write a URL in other ways than it was given, and a shortened text may end within a signature.
    """
    text = str(error).replace(url, shown(url))
    for part in _NEXT.split(url):
        for _, value in parse_qsl(part.partition("?")[2]):
            if len(value) >= _LONG:
                text = text.replace(value, "...").replace(quote(value, safe=""), "...")
    return one_line(Exception("::".join(_URL.sub(_without_secrets, part) for part in _NEXT.split(text))))


_LONG = 8
"""Characters from which on what stands in a query may be a secret."""


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

    try:
        yield
    except UnlearnDiffError:
        raise
    except ImportError as error:  # fsspec says itself which package a place needs
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        reason = f" needs {missing}: pip install {missing}" if missing else f": {_said(error, url)}"
        raise kind(f"{place}{reason}") from None
    except Exception as error:
        raise kind(f"{place} cannot be {verb}: {type(error).__name__}: {_said(error, url)}. {mend}") from None
