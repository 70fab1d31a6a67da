"""Text from attackers is made harmless; durations and commands read back as what they were."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.reports.text import (
    format_count,
    format_duration,
    format_share,
    format_value,
    sanitize,
    share_in_words,
)

STEERING = (
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m"),
    *(f"a{c}b" for c in "\r\n\t\x08\x7f\u200f\u202e\u200b\u00ad\ufeff\ud800\ue000\u2028\u2029\x85"),
    "a\u2066b\u2069",
)


@pytest.mark.parametrize("bad", STEERING)
def test_sanitize(bad: str) -> None:
    clean = sanitize(bad)
    assert clean.isprintable()
    assert len(clean.splitlines()) == 1
    clean.encode()


@given(st.text())
def test_sanitize_any_text(text: str) -> None:
    clean = sanitize(text)
    assert len(clean.splitlines()) <= 1
    assert len(clean) <= 200
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]", clean)


@pytest.mark.parametrize(
    "text", ["a church", "eine Kirche in Köln", "教会の写真", "кирха", "⛪ 🌳", 'quote " and \\', ""]
)
def test_sanitize_keeps_all_scripts(text: str) -> None:
    assert sanitize(text) == text


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=80), st.integers(3, 60))
def test_sanitize_cuts_long_text(text: str, limit: int) -> None:
    clean = sanitize(text, limit)
    assert len(clean) <= limit
    assert clean == text or (clean.endswith("...") and text.startswith(clean[:-3]))


DURATIONS = {0: "0.0s", 0.44: "0.4s", 42.2: "42s", 190: "3m10s", 3599: "59m59s", 3599.7: "1h00m", 7500: "2h05m"}


@pytest.mark.parametrize(("seconds", "text"), [*DURATIONS.items(), (90000, "25h00m")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 1e6))
def test_duration_precision(seconds: float) -> None:
    parts = dict.fromkeys("hms", 0.0) | {
        unit: float(value) for value, unit in re.findall(r"([\d.]+)([hms])", format_duration(seconds))
    }
    shown = 3600 * parts["h"] + 60 * parts["m"] + parts["s"]
    assert abs(shown - seconds) <= (60.5 if parts["h"] else 0.51 if seconds >= 10 else 0.051)


def test_counts_and_shares() -> None:
    assert (format_count(3, 0, 10), format_count(3, 4, 10)) == ("3/10", "3..7/10")
    assert format_share(3, 0, 10) == share_in_words(3, 0, 10) == "3/10 = 30.0%"
    assert format_share(3, 4, 10) == "3..7/10 = 30.0%..70.0%"
    assert share_in_words(3, 4, 10) == "between 3/10 = 30.0% and 7/10 = 70.0%"
    assert share_in_words(3, 7, 10) == "at least 3/10 = 30.0%"


def test_format_value() -> None:
    assert format_value(["UNet: 3 tensors", "text encoder: all"]) == "UNet: 3 tensors; text encoder: all"
    assert format_value({"method": "esd", "steps": 5, "old": True}) == "method esd, steps 5, old yes"
    assert format_value("a\x1b[2J") == "a\N{REPLACEMENT CHARACTER}[2J"
