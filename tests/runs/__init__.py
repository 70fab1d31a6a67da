"""Running a campaign: store, engine, models, positive control."""

from __future__ import annotations
