"""Values that nobody means: each must be refused in one bounded line, or be harmless where any text will do."""

from __future__ import annotations

import os
import socket
import unicodedata
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

LINE = 2_000
"""Characters of a line of an error, at most."""

TEXTS = (
    # What steers a terminal, or cannot be written to one.
    "\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\rb", "a\nb", "a\tb", "\u202ea", "\ud800", "a\x7f", "\x08" * 9,
    # What no path can be, or where nothing may be read or written.
    "\0", "a\0b", "~nosuchuser/x", "~nosuchuser", "x" * 5_000, "x" * 300, "/" + "x/" * 3_000, "\N{SNOWMAN}" * 2_000,
    "/dev/zero", "/dev/null", "/dev/tty", "fifo", "socket", "loop", "file/below", "/proc/self/mem", ".", "..", " ",
    # What is no number, or one that takes memory without end.
    "9" * 400, "9" * 5_000, "-1", "0", "1e400", "1e-99999999", "1e9_9999999", "1e99999999%", "nan", "inf", "-inf",
    "0x10", "\N{SUPERSCRIPT TWO}", "1/0", "1/3", "%", "1000%", "10", str(2**64), str(-(2**63)), "1" + "0" * 30, "True",
    "1.5", "9" * 400 + "h", "9999999h", "1h" * 3_000, "1," * 3_000, ",,,",
    # Places that lead to the above.
    "://", "file:///dev/zero", "file:///" + "x" * 5_000, "file://\x1b[31m", "memory://\x1b[31m", "zip://a::file:///dev/null",
    # Forms of some options.
    "html:/dev/null", "json:fifo", "md:" + "x" * 5_000, "html:~nosuchuser/x", "github:x", "html:a\0b", "json:loop",
    "transfer:fifo", "transfer:/dev/zero", "transfer:~nosuchuser/x", "transfer:" + "x" * 5_000, "transfer:a\0b",
    "transfer:loop", "medium:\x1b[31m", "ray://" + "x" * 5_000 + ":1", "ray://a:" + "9" * 400, "a" * 300 + ":b",
    "no.such:thing", "'" * 2_000, "$(id)", "{{7*7}}", "%s%n", "../../../../etc/passwd",
)  # fmt: skip


class Odd:
    """Does nothing that objects do."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __bool__(self) -> bool:
        raise RuntimeError("neither")

    __hash__ = None  # type: ignore[assignment]


def bomb(levels: int = 40) -> list[Any]:
    """A list that is small in memory and has 10**levels elements."""
    found: list[Any] = ["x"]
    for _ in range(levels):
        found = [found] * 10
    return found


def itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


OBJECTS: tuple[Any, ...] = (
    True, False, 10, -1, 0, 10**30, 2**64, 10**5_000, -(10**30), float("nan"), float("inf"), -0.5, 1e308, 95.0, 1j,
    b"\x1b", Fraction(1, 10**6_000), Decimal("1e-99999999"), Decimal("nan"), [], {}, (), {1, 2}, [[]], bomb(), itself(),
    Odd(), Path("fifo"), Path("a\0b"), Path("~nosuchuser/x"), Path("/dev/zero"), Path("x" * 5_000), lambda: 0, len,
)  # fmt: skip


def furnish(folder: Path) -> None:
    """Put there what the texts name."""
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "file").write_text("x")
    here = Path.cwd()
    os.chdir(folder)  # a socket's name has room for some hundred characters
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind("socket")
    finally:
        os.chdir(here)


def check(said: str, most: int = LINE) -> None:
    """Fail unless a terminal shows this as it is, in lines that are not endless."""
    assert said.strip()
    for line in said.split("\n"):
        assert len(line) <= most, line[:300]
        assert not [c for c in line if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029"], ascii(line)[:300]


def check_session(result: pytest.RunResult, *exits: int) -> None:
    """Fail unless a session that refuses something ended so, without a traceback."""
    said = result.stdout.str() + result.stderr.str()
    assert result.ret in exits, said[-3_000:]
    assert "INTERNALERROR" not in said
    assert "Traceback" not in said
    for line in said.split("\n"):
        if line.strip():
            check(line.replace("\r", ""))
