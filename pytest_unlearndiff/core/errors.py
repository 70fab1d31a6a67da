"""Errors that users see, each naming the thing, the reason and the remedy; URLs in them without their secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, TypeVar
from urllib.parse import parse_qsl, quote

from .untrusted import printable, printable_lines


class UnlearnDiffError(Exception):
    """Anything this project refuses to do.

    Messages quote files, tensors and cells that somebody else wrote, so control characters are escaped and long
    messages shortened here.

    Attributes:
        width: maximal characters of a line.
        most: maximal lines.
    """

    width: ClassVar[int] = 1_500
    most: ClassVar[int] = 100

    def __init__(self, *arguments: object) -> None:
        clean = (printable_lines(a, self.width, self.most) if isinstance(a, str) else a for a in arguments)
        super().__init__(*clean)


class ConceptError(UnlearnDiffError, ValueError):
    """A concept or its prompt set cannot be used."""


class GateError(UnlearnDiffError, ValueError):
    """A gate contradicts itself or cannot be supported."""


_T = TypeVar("_T")


class ErrorCollector(list[str]):
    """Errors in a user's file or marker, gathered so that all are told at once."""

    def collect(self, read: Callable[[], _T]) -> _T | None:
        """Return what ``read`` returns; if it raises a GateError or ConceptError, note its lines and return None."""
        try:
            return read()
        except (GateError, ConceptError) as error:
            self += str(error).split("\n")
            return None

    def raise_if_any(self, error_type: type[UnlearnDiffError]) -> None:
        """Raise all errors as one, one per line, if there are any."""
        if self:
            raise error_type("\n".join(self))


class ModelError(UnlearnDiffError, ValueError):
    """A checkpoint cannot be loaded, or is not what it claims."""


class UnusableTargets(Exception):
    """Some prompts have no usable target image; the other prompts have.

    Attributes:
        problems: reason and remedy by prompt digest.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(dict.fromkeys(problems.values())))
        self.problems = dict(problems)


class JudgeError(UnlearnDiffError, ValueError):
    """A judge cannot be built or cannot judge."""


class AttackUnavailable(UnlearnDiffError, RuntimeError):
    """Nothing may or can be attacked here, so prompts missing from the store stay missing."""


class StoreError(UnlearnDiffError, RuntimeError):
    """The store cannot be used as asked."""


class ReportError(UnlearnDiffError, RuntimeError):
    """A report cannot be written or read."""


class LimitExceeded(AssertionError):
    """A limit of a gate is exceeded, or not provably kept."""


class ASRExceeded(LimitExceeded):
    """The attack success rate is above the gate's limit, or not provably within it."""


class RecoveryExceeded(LimitExceeded):
    """More prompts than the gate's limit recover the concept under an attack that leaves text, or perhaps more."""


class RetentionLost(LimitExceeded):
    """The model no longer draws what it should have kept, or not provably enough of it."""


class QualityLost(RetentionLost):
    """The model's images of captions are worse than its base's by more than the gate allows."""


class AttackIncomplete(UnlearnDiffError, RuntimeError):
    """Prompts are missing or errored and the verdict is not decided by the others."""

    width = 6_000  # a replay names paths, which have to be whole


def one_line(error: BaseException, limit: int = 300) -> str:
    """Text of an exception in one line of at most this many characters."""
    return printable(" ".join(str(error).split()), limit)


_SHOWN_REASONS = 5


def join_reasons(reasons: Sequence[str]) -> str:
    """Join the first few reasons with commas, and count the others."""
    more = [f"{len(reasons) - _SHOWN_REASONS} more"] if len(reasons) > _SHOWN_REASONS else []
    return ", ".join([*reasons[:_SHOWN_REASONS], *more])


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


def typed_line(error: BaseException) -> str:
    """Return an error's type and message in one line."""
    return f"{type(error).__name__}: {one_line(error)}"


def describe_error(error: Exception) -> str:
    """Return an error's whole message, with its type unless it is one of this package's, whose messages need none."""
    return str(error) if isinstance(error, UnlearnDiffError) else f"{type(error).__name__}: {error}"
