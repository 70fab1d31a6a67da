"""The gates that a test's markers ask for, of every kind, each read once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ..core.concept_file import ConceptLibrary
from ..core.errors import GateError
from ..core.untrusted import short_repr
from .markers import ATTACK, RETENTION, GateRequest, Marker, read_gate
from .quality_marker import QUALITY, QualityRequest, read_quality
from .settings import Settings

MARKERS = {marker.name: marker for marker in (ATTACK, RETENTION, QUALITY)}

Request = GateRequest | QualityRequest

_REQUESTS = pytest.StashKey[dict[int, Request]]()


def read_request(
    marker: Marker, keywords: Mapping[str, Any], settings: Settings, library: ConceptLibrary, folder: Path
) -> Request:
    """Check the keywords of any marker; see ``read_gate``.

    Raises:
        GateError: every mistake in the gate, one per line.
    """
    read = read_quality if marker is QUALITY else read_gate
    return read(marker, keywords, settings, library, folder)


def request_of(mark: pytest.Mark, item: pytest.Item, settings: Settings, library: ConceptLibrary) -> Request:
    """Read the gate of a test's marker, once.

    Raises:
        GateError: as ``read_request``.
    """
    requests = item.stash.setdefault(_REQUESTS, {})
    if id(mark) not in requests:  # marks cannot be hashed
        marker = MARKERS[mark.name]
        requests[id(mark)] = read_request(marker, marker_keywords(mark), settings, library, item.path.parent)
    return requests[id(mark)]


def marker_keywords(mark: pytest.Mark) -> dict[str, Any]:
    """Return a marker's arguments by keyword.

    Raises:
        GateError: more than the concept, or the captions, is given by position.
    """
    subject = MARKERS[mark.name].subject
    if len(mark.args) > 1:
        raise GateError(
            f"{mark.name} takes the {subject} by position, the rest by keyword; found {short_repr(mark.args)}"
        )
    return {**({subject: mark.args[0]} if mark.args else {}), **mark.kwargs}
