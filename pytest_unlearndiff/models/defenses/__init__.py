"""Inference-time erasers: one module each, and one row here, which needs no torch."""

from __future__ import annotations

from ...core.registry import DefenseInfo

ROWS: tuple[DefenseInfo, ...] = ()
