"""Benchmarks: commands that run long and print tables, and the yardstick they hold the attacks against."""

from __future__ import annotations
