"""URLs in messages, and one error for whatever a library raises that reads one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, quote

from .errors import UnlearnDiffError, one_line

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?\s]*)(?P<path>[^?\s]*)(?P<query>\?\S*)?")
_CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
"""Separator of a file and the archive it lies in, as in ``zip://m.pt::https://host/a.zip``."""
_USER_SCHEMES = ("http", "https", "ftp", "ftps", "sftp", "ssh", "webdav", "webdavs", "smb")
"""Schemes whose text before an ``@`` is a user; in others only with a password."""
_REVISION_SCHEMES = ("git", "github")
"""Schemes whose text before an ``@`` is a repository."""
_SECRET_LENGTH = 8
"""Characters from which on a query's value may be a secret."""


def redact_url(url: str) -> str:
    """Remove what grants access from a URL: user and password, and the query, which may hold a signature."""
    return "::".join(_URL.sub(_redact_match, part.partition("?")[0]) for part in _CHAIN.split(url))


def _redact_match(url: re.Match[str]) -> str:
    scheme = url["scheme"].lower()
    user, _, host = url["authority"].rpartition("@")
    is_user = scheme in _USER_SCHEMES or (":" in user and scheme not in _REVISION_SCHEMES)
    return f"{url['scheme']}://{host if is_user else url['authority']}{url['path']}"


def _redact_error(error: Exception, url: str) -> str:
    """Text of an exception in one line without the URL's secrets.

    Libraries spell a URL in other ways than it was given, and a shortened text may end within a signature.
    """
    text = str(error).replace(url, redact_url(url))
    for part in _CHAIN.split(url):
        for _, value in parse_qsl(part.partition("?")[2]):
            if len(value) >= _SECRET_LENGTH:
                text = text.replace(value, "...").replace(quote(value, safe=""), "...")
    return one_line(Exception("::".join(_URL.sub(_redact_match, part) for part in _CHAIN.split(text))))


@contextmanager
def wrap_access_errors(
    url: str, verb: str, remedy: str, error_type: type[UnlearnDiffError], *, label: str = ""
) -> Iterator[None]:
    """Turn any exception of a library into one that names the place, the reason and the remedy.

    Args:
        url: the place; its secrets are not told.
        verb: past participle of what is done with it, such as ``read``.
        remedy: a sentence.
        error_type: class of the error raised; errors of this project pass unchanged.
        label: noun in front of the URL.

    Raises:
        UnlearnDiffError: of ``error_type``: it cannot be reached, or a package is missing.
    """
    place = f"{label} {redact_url(url)}".lstrip()
    try:
        yield
    except UnlearnDiffError:
        raise
    except ImportError as error:  # fsspec says itself which package a scheme needs
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        reason = f" needs {missing}: pip install {missing}" if missing else f": {_redact_error(error, url)}"
        raise error_type(f"{place}{reason}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {_redact_error(error, url)}"
        raise error_type(f"{place} cannot be {verb}: {reason}. {remedy}") from None
