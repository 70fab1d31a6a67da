"""Unit tests: one file a module, no torch, no models, no network."""

from __future__ import annotations
