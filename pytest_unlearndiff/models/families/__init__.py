"""Families of diffusion models: one module each, and one row here, which needs no torch."""

from __future__ import annotations

from ...core.registry import FamilyInfo

ROWS: tuple[FamilyInfo, ...] = ()
