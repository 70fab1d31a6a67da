"""Guards for values from outside: options, markers, files, tensor names.

None of them runs long, takes much memory or raises anything but ``ValueError`` (and, where a file is read,
``OSError``). The message is the reason, and the caller names the thing.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import stat
import unicodedata
from numbers import Rational
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fractions import Fraction

MOST_SEED = 2**64 - 1
"""The largest seed that ``torch.Generator.manual_seed`` takes."""
MOST_SLOTS = 1_000
"""Adversarial tokens; no text encoder of a diffusion model takes more than 512 tokens in all."""
MOST_STEPS = 1_000
"""Denoising steps; models are trained on 1,000 timesteps."""
MOST_COUNT = 1_000_000
"""Anything else that is counted: prompts, batches, samples."""
MOST_CASE = 2**63 - 1
"""Case numbers, of either sign."""

YAML_BYTES = 2**20
JSON_BYTES = 16 * 2**20
"""A shard index of the largest models has 2 MiB."""
CSV_BYTES = 64 * 2**20

_DIGITS = 100
_EXPONENT = 400
"""A float's smallest exponent is -324."""
_PATH_BYTES = 4095
"""Linux' PATH_MAX, without the NUL at the end."""
_GAP = "[...]"


def printable(text: str, most: int = 200) -> str:
    r"""Text in one line of at most ``most`` characters, in which nothing steers a terminal.

    Control, formatting and unassigned characters and line ends are escaped as in Python (``\x1b``). Of a longer text,
    its begin and its end are given, since the end of a path tells it from others.
    """
    long = len(text) > 2 * most
    clean = _escaped(text[:most] + text[-most:] if long else text)
    if not long and len(clean) <= most:
        return clean
    kept = most - len(_GAP)
    end = kept // 3
    return clean[: kept - end] + _GAP + clean[len(clean) - end :]


def printable_lines(text: str, width: int, most: int) -> str:
    """Text of several lines, each as ``printable`` gives it, and at most ``most`` of them."""
    lines = text.split("\n", most)
    if len(lines) > most:
        lines[most - 1 :] = [f"and {lines[most].count(chr(10)) + 2:,} more lines"]
    return "\n".join(printable(line, width) for line in lines)


def steers(character: str) -> bool:
    """Whether a terminal or an editor may act on this character instead of showing it."""
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode("ascii") if steers(c) else c for c in text)


def shown(value: object, most: int = 80) -> str:
    """A value as Python writes it, as ``printable`` gives it; the middle of long collections is left out."""
    try:
        return printable(_Repr(most).repr(value), most)
    except Exception:  # of a class whose __repr__ raises
        return printable(f"<{type(value).__name__}>", most)


class _Repr(reprlib.Repr):
    """Writes the first elements of collections, which may hold each other many times over, and no number in full.

    Args:
        most: characters of one text in it.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxdict = self.maxset = self.maxfrozenset = 4
        self.maxstring = self.maxother = 2 * most

    def repr_int(self, value: int, level: int) -> str:
        """Tell the length of a number that is long."""
        bits = value.bit_length()
        return repr(value) if bits < 400 else f"<whole number of about {int(bits * 0.30103):,} digits>"

    def repr_bytes(self, value: bytes, level: int) -> str:
        """Leave out what is behind the first bytes."""
        return repr(value[: self.maxstring])


def exact_number(value: object) -> Fraction:
    """A number exactly as it was written, in time that does not depend on how large it is.

    Args:
        value: a number, or its text: ``0.1``, ``1e-3``, ``1/10`` or ``10%``. A float is read by its shortest decimal
            form, so that ``0.29`` is 29/100.

    Raises:
        ValueError: not a number, not finite, or with more than 100 digits or an exponent beyond 400.
    """
    from decimal import Decimal
    from fractions import Fraction

    if isinstance(value, str):
        text = value.strip()
        if len(text) > _DIGITS:
            raise ValueError(f"has more than {_DIGITS} digits")
        number, percent = text.removesuffix("%").rstrip(), text.endswith("%")
        exponent = re.search(r"e[-+]?([\d_]+)$", number, re.IGNORECASE)
        if exponent and int(exponent[1].replace("_", "") or 0) > _EXPONENT:
            raise ValueError(f"has an exponent beyond {_EXPONENT}")
        try:
            found = Fraction(number)
        except (ValueError, ArithmeticError):
            raise ValueError("is not a number") from None
        return found / 100 if percent else found
    if isinstance(value, float):  # numpy's float64 too, which writes itself otherwise
        value = Decimal(repr(float(value)))
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("is not a finite number")
        if len(value.as_tuple().digits) > _DIGITS or abs(value.adjusted()) > _EXPONENT:
            raise ValueError(f"has more than {_DIGITS} digits, or an exponent beyond {_EXPONENT}")
        return Fraction(value)
    if isinstance(value, bool) or not isinstance(value, Rational):
        raise ValueError("is not a number")
    numerator, denominator = int(value.numerator), int(value.denominator)
    if max(numerator.bit_length(), denominator.bit_length()) > 4 * _EXPONENT:
        raise ValueError(f"has more than {_EXPONENT} digits")
    return Fraction(numerator, denominator)


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether this is a whole number from ``least`` to ``most``; ``True`` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def whole_form(least: int, most: int) -> str:
    """Name the numbers that ``is_whole`` accepts, for errors."""
    return f"a whole number of at least {least} and at most {most:,}"


def whole_number(text: str, least: int, most: int) -> int:
    """A whole number in decimal digits.

    Raises:
        ValueError: it is none, or outside of ``least`` to ``most``; the message is the allowed form.
    """
    if re.fullmatch(r"\s*[-+]?[0-9]{1,30}\s*", text) and least <= int(text) <= most:
        return int(text)
    raise ValueError(whole_form(least, most))


def days(text: str) -> float:
    """A number of days above zero.

    Raises:
        ValueError: it is none; the message is the allowed form.
    """
    try:
        found = exact_number(text)
    except ValueError:
        found = None
    if found is None or "%" in text or not 0 < found <= _MOST_DAYS:
        raise ValueError(f"a number of days, such as 30, of at most {_MOST_DAYS:,}")
    return float(found)


_MOST_DAYS = 1_000_000


def path_from(text: str | os.PathLike[str], folder: Path, *, home: bool = True) -> Path:
    """A path that somebody wrote; there need be nothing at it, but the system can look.

    Args:
        text: relative or absolute.
        folder: from which a relative path counts.
        home: whether ``~`` stands for a home folder.

    Raises:
        ValueError: no file can have this name, or the system does not let it be looked at.
    """
    written = os.fspath(text)
    if not isinstance(written, str):
        raise ValueError("is not a path in text")
    if "\0" in written:
        raise ValueError("holds a NUL character, which no path can")
    if len(written) > _PATH_BYTES:
        raise ValueError(f"has {len(written):,} characters, more than a path can")
    try:
        path = folder / (Path(written).expanduser() if home else written)
    except RuntimeError:
        raise ValueError("begins with the home folder of a user who is not on this machine") from None
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except UnicodeError:
        raise ValueError("holds a character that no path can") from None
    except OSError as error:
        raise ValueError(f"cannot be looked at ({error.strerror})") from None
    return path


def existing(text: str | os.PathLike[str], folder: Path) -> Path | None:
    """The absolute path of a file or folder; None where there is nothing.

    Raises:
        ValueError: as ``path_from``, or there is something that is neither, such as a pipe, which may never end.
    """
    path = path_from(text, folder)
    if not path.exists():
        return None
    if special := special_file(path):
        raise ValueError(f"is {special}, neither a file nor a folder")
    return path.resolve()


def special_file(path: Path) -> str:
    """What something is that is neither file nor folder, such as ``a pipe``; empty for these, and for nothing.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "a special file")


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file.

    Raises:
        ValueError: it is something else, or has more than ``most`` bytes.
        OSError: it cannot be read.
    """
    if special := special_file(path):
        raise ValueError(f"is {special}, not a file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"has more than {most:,} bytes, more than such a file can need")
    return content


def read_json(path: Path, most: int = JSON_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is no JSON, no regular file, or has more than ``most`` bytes.
        OSError: it cannot be read.
    """
    try:
        return json.loads(read_bytes(path, most))
    except RecursionError:
        raise ValueError("is nested without end") from None
