"""The engine over many processes, with workers in this process or a fake Ray."""

from __future__ import annotations
