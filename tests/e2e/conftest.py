"""Sessions of these tests have processes of their own: what processes do is what they are about."""

from __future__ import annotations

import pytest
from worlds import World


@pytest.fixture
def world(world: World) -> World:
    world.apart = True
    return world
