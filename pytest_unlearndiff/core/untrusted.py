"""Guards for values from outside: options, markers, files, tensor names.

None of them runs long, takes much memory or raises anything but ``ValueError`` (and ``OSError`` for a file). The
message is the reason; the caller names the thing.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import reprlib
import stat
import unicodedata
from collections.abc import Iterable
from numbers import Rational
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fractions import Fraction

MOST_SEED = 2**64 - 1
"""The largest seed that ``torch.Generator.manual_seed`` takes."""
MOST_SLOTS = 1_000
MOST_IMAGES_PER_PROMPT = 100
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
_MOST_DAYS = 1_000_000
_NAME_LENGTH = 100
"""Characters of a name that suggestions look at."""
_EXPONENT = 400
"""A float's smallest exponent is -324."""
_PATH_BYTES = 4095
"""Linux' PATH_MAX, without the NUL at the end."""
_GAP = "[...]"


def printable(text: str, most: int = 200) -> str:
    r"""Shorten text to one line of at most ``most`` characters that no terminal acts on.

    Control, formatting and unassigned characters and line ends are escaped as in Python (``\x1b``). A longer text keeps
    its begin and its end, since the end of a path tells it from others.
    """
    long = len(text) > 2 * most
    clean = _escaped(text[:most] + text[-most:] if long else text)
    if not long and len(clean) <= most:
        return clean
    kept = most - len(_GAP)
    end = kept // 3
    return clean[: kept - end] + _GAP + clean[len(clean) - end :]


def printable_lines(text: str, width: int, most: int) -> str:
    """Shorten text to at most ``most`` lines, each as ``printable`` returns it."""
    lines = text.split("\n", most)
    if len(lines) > most:
        lines[most - 1 :] = [f"and {lines[most].count(chr(10)) + 2:,} more lines"]
    return "\n".join(printable(line, width) for line in lines)


def is_control(character: str) -> bool:
    """Tell whether a terminal or an editor may act on this character instead of showing it."""
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode("ascii") if is_control(c) else c for c in text)


def short_repr(value: object, most: int = 80) -> str:
    """Represent a value as Python does, in at most ``most`` characters that no terminal acts on."""
    try:
        return printable(_Repr(most).repr(value), most)
    except Exception:  # of a class whose __repr__ raises
        return printable(f"<{type(value).__name__}>", most)


class _Repr(reprlib.Repr):
    """Represents the first elements of collections, which may hold each other many times over, and no long number.

    Args:
        most: characters of one text in it.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxdict = self.maxset = self.maxfrozenset = 4
        self.maxstring = self.maxother = 2 * most

    def repr_int(self, value: int, level: int) -> str:
        """Represent a long number by its length."""
        bits = value.bit_length()
        return repr(value) if bits < 400 else f"<whole number of about {int(bits * 0.30103):,} digits>"

    def repr_bytes(self, value: bytes, level: int) -> str:
        """Represent the first bytes."""
        return repr(value[: self.maxstring])


def parse_exact(value: object) -> Fraction:
    """Read a number exactly as it was written, in time that does not depend on its size.

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
            fraction = Fraction(number)
        except (ValueError, ArithmeticError):
            raise ValueError("is not a number") from None
        return fraction / 100 if percent else fraction
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
    """Tell whether this is a whole number from ``least`` to ``most``; ``True`` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def whole_form(least: int, most: int) -> str:
    """Describe the numbers that ``is_whole`` accepts, for errors."""
    return f"a whole number of at least {least} and at most {most:,}"


def parse_int(text: str, least: int, most: int) -> int:
    """Parse a whole number in decimal digits.

    Raises:
        ValueError: it is none, or outside of ``least`` to ``most``; the message is the allowed form.
    """
    if re.fullmatch(r"\s*[-+]?[0-9]{1,30}\s*", text) and least <= int(text) <= most:
        return int(text)
    raise ValueError(whole_form(least, most))


def is_count(value: object, most: int = MOST_COUNT) -> bool:
    """Tell whether this is a whole number from 1 to ``most``; ``True`` is none."""
    return is_whole(value, 1, most)


def is_number(value: object, least: float, most: float) -> bool:
    """Tell whether this is a number in [``least``, ``most``]; ``True`` is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def parse_days(text: str) -> float:
    """Parse a number of days above zero.

    Raises:
        ValueError: it is none; the message is the allowed form.
    """
    try:
        days = parse_exact(text)
    except ValueError:
        days = None
    if days is None or "%" in text or not 0 < days <= _MOST_DAYS:
        raise ValueError(f"a number of days above 0 and at most {_MOST_DAYS:,}, such as 30")
    return float(days)


def hint(wrong: str, known: Iterable[str]) -> str:
    """Suggest names that may have been meant: ``did you mean 'church'?``, or the known names if none is near."""
    names = sorted(known)
    if near := difflib.get_close_matches(wrong[:_NAME_LENGTH], names, n=3):
        return f"did you mean {' or '.join(map(short_repr, near))}?"
    listed = ", ".join(printable(name, _NAME_LENGTH) for name in names[:20])
    return f"known: {listed or 'none'}{', ...' if len(names) > 20 else ''}"


def parse_path(text: str | os.PathLike[str], folder: Path, *, home: bool = True) -> Path:
    """Resolve a path that somebody wrote; nothing need be there, but the system can look.

    Args:
        text: relative or absolute.
        folder: base of a relative path.
        home: whether ``~`` stands for a home folder.

    Raises:
        ValueError: no file can have this name, or the system does not let anybody look.
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


def find_path(text: str | os.PathLike[str], folder: Path) -> Path | None:
    """Resolve the absolute path of a file or folder; None if there is nothing.

    Raises:
        ValueError: as ``parse_path``, or something is there that is neither, such as a pipe, which may never end.
    """
    path = parse_path(text, folder)
    if not path.exists():
        return None
    if special := special_file(path):
        raise ValueError(f"is {special}, neither a file nor a folder")
    return path.resolve()


def special_file(path: Path) -> str:
    """Name the kind of something that is neither file nor folder, such as ``a pipe``; empty for those, and for nothing.

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
    """Read a regular file of at most ``most`` bytes.

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
    """Read a JSON file of at most ``most`` bytes.

    Raises:
        ValueError: it is no JSON, no regular file, or has more than ``most`` bytes.
        OSError: it cannot be read.
    """
    try:
        return json.loads(read_bytes(path, most))
    except RecursionError:
        raise ValueError("is nested without end") from None
