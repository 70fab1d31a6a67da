"""Property tests repeat themselves exactly, and do not judge how fast the machine is."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, derandomize=True, database=None, max_examples=80)
settings.load_profile("unit")
