"""Guards for values from outside: fast, bounded, and one reason each."""

from __future__ import annotations

import os
import pickle
import time
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import hostile
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_unlearndiff.core import errors, untrusted
from pytest_unlearndiff.core.errors import UnlearnDiffError, one_line
from pytest_unlearndiff.core.untrusted import (
    find_path,
    parse_exact,
    parse_int,
    parse_path,
    printable,
    printable_lines,
    read_bytes,
    read_json,
    short_repr,
)

anything = st.text(st.characters(codec=None), max_size=400) | st.sampled_from(hostile.TEXTS)
numbers = st.integers() | st.floats() | st.decimals() | st.fractions() | st.booleans()
fast = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(anything, st.integers(20, 300), st.integers(1, 10))
def test_printable_text_is_bounded_and_idempotent(text: str, width: int, most: int) -> None:
    clean, lines = printable(text, width), printable_lines(text, width, most).split("\n")
    for line in (clean, one_line(RuntimeError(text), width), *lines):
        assert len(line) <= width
        assert not any(map(untrusted.is_control, line))
    for line in (clean, *lines):
        assert printable(line, width) == line
    if len(text) <= width and not any(map(untrusted.is_control, text)):
        assert clean == text
    assert printable_lines("\n".join(lines), width, most) == "\n".join(lines)
    assert len(lines) <= most


def test_omitted_lines_are_counted() -> None:
    assert printable_lines("a\nb\nc\nd\ne", 100, 2) == "a\nand 4 more lines"
    assert printable_lines("a\nb", 100, 2) == "a\nb"


def test_printable_escapes_and_keeps_both_ends() -> None:
    assert printable("\x1b[31m\n\u202e\ud800\N{SNOWMAN}") == "\\x1b[31m\\n\\u202e\\ud800\N{SNOWMAN}"
    long = printable("begin" + "x" * 10_000_000 + "end")
    assert (long[:5], long[-3:], len(long)) == ("begin", "end", 200)


values = st.recursive(
    st.none() | numbers | anything | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
)


ENDLESS = {
    "bomb": hostile.bomb(), "bomb in a mapping": {"a": hostile.bomb()}, "itself": hostile.itself(),
    "odd": hostile.Odd(), "odd inside": [hostile.Odd()], "number": 10**1_000_000, "bytes": b"x" * 10**8,
    "text": "x" * 10**8,
}  # fmt: skip


@pytest.mark.parametrize("name", ENDLESS)
def test_short_repr_of_endless_values(name: str) -> None:
    begun = time.monotonic()
    said = short_repr(ENDLESS[name])
    assert time.monotonic() - begun < 30
    hostile.check(said, 80)


@given(values, st.integers(20, 200))
def test_short_repr_is_one_line(value: Any, most: int) -> None:
    hostile.check(short_repr(value, most), most)


@given(st.text(max_size=30), st.integers(-(10**30), 10**30))
def test_short_repr_of_short_values(text: str, number: int) -> None:
    assert short_repr(number) == repr(number)
    assert short_repr(text, 400) == repr(text)


def exact(value: Any) -> Fraction | None:
    """Parse within a time limit; None is a refusal."""
    begun, number = time.monotonic(), None
    with suppress(ValueError):
        number = parse_exact(value)
    assert time.monotonic() - begun < 30
    return number


@pytest.mark.parametrize("value", hostile.OBJECTS, ids=range(len(hostile.OBJECTS)))
def test_parse_exact_refuses_quickly(value: Any) -> None:
    if (number := exact(value)) is not None:
        assert not isinstance(value, bool)
        assert (float(number) if isinstance(value, float) else number) == value


@given(numbers | anything | st.text("0123456789.eE+-_/% ", max_size=20))
@example("1e-400")
@example("1" * 100)
@example("0e-99999999")
@example(Decimal("0e-99999999"))
@example(Decimal(10) ** 399)
def test_parse_exact_is_exact(value: Any) -> None:
    if (number := exact(value)) is None:
        return
    assert max(number.numerator.bit_length(), number.denominator.bit_length()) < 10_000
    if isinstance(value, str):
        text = value.strip()
        assert number == (Fraction(text[:-1].strip()) / 100 if text.endswith("%") else Fraction(text))
    else:
        assert (float(number) == value) if isinstance(value, float) else (number == Fraction(value))


@given(st.integers(-(10**20), 10**20), st.integers(0, 10**6), st.integers(10**6, 10**19))
def test_parse_int_keeps_its_range(number: int, least: int, most: int) -> None:
    if least <= number <= most:
        assert parse_int(f" {number} ", least, most) == number
    else:
        with pytest.raises(ValueError, match=f"a whole number of at least {least} and at most {most:,}"):
            parse_int(str(number), least, most)


@given(anything)
def test_parse_any_text(text: str) -> None:
    for read in (lambda text: parse_int(text, 0, untrusted.MOST_SEED), untrusted.parse_days):
        try:
            assert 0 <= read(text) <= untrusted.MOST_SEED
        except ValueError as error:
            hostile.check(str(error))  # either is right


@fast
@given(anything)
def test_parse_path_of_any_text(tmp_path: Path, text: str) -> None:
    try:
        path = parse_path(text, tmp_path)
    except ValueError as error:
        hostile.check(str(error))  # either is right
        return
    assert path.exists() in (True, False)
    assert path.resolve().is_absolute()


def test_special_files_are_refused(tmp_path: Path) -> None:
    hostile.furnish(tmp_path)
    for name, said in {"fifo": "a pipe", "socket": "a socket", "/dev/zero": "a device"}.items():
        with pytest.raises(ValueError, match=f"is {said}, neither a file nor a folder"):
            find_path(name, tmp_path)
        with pytest.raises(ValueError, match=f"is {said}, not a file"):
            read_bytes(tmp_path / name, 10)
    with pytest.raises(ValueError, match="cannot be looked at"):
        find_path("loop", tmp_path)
    assert find_path("file", tmp_path) == tmp_path / "file"
    assert find_path("nothing", tmp_path) is find_path("file/below", tmp_path) is None
    with pytest.raises(OSError, match="directory"):
        read_bytes(tmp_path, 10)


def test_read_bytes_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'"' + b"x" * 8 + b'"')
    assert read_bytes(tmp_path / "x", 10) == b'"xxxxxxxx"'
    assert read_json(tmp_path / "x", 10) == "xxxxxxxx"
    for read in (read_bytes, read_json):
        with pytest.raises(ValueError, match="has more than 9 bytes"):
            read(tmp_path / "x", 9)
    with (tmp_path / "sparse").open("wb") as file:
        os.truncate(file.fileno(), 2**33)
    with pytest.raises(ValueError, match="has more than"):
        read_json(tmp_path / "sparse")
    for content in (b"[" * 100_000, b"9" * 5_000, b"\xff", b"{", b""):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ValueError, match=r"\S") as caught:
            read_json(tmp_path / "x")
        hostile.check(str(caught.value))


ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UnlearnDiffError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_fit_for_a_terminal(kind: type[UnlearnDiffError]) -> None:
    error = kind("\n".join(["tensor \x1b[31m\u202e" + "x" * 10_000, "give another"] * 200))
    assert len(str(error)) < 10**6
    hostile.check(str(error), 6_000)
    assert "give another" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, str(error))
