"""What real pytest processes load, print and leave behind."""

from __future__ import annotations
