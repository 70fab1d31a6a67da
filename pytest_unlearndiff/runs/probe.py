"""A probe: time and memory that a campaign's model takes on this device, measured before anything is attacked."""

from __future__ import annotations

from ..core.device import Probe
from ..store.store import Store
from .campaign import Campaign
from .local_backend import EngineRequest, LocalBackend
from .model_cache import ModelCache, import_libraries
from .model_spec import ModelSpec, located
from .positive_control import ControlRecorder, control_campaign


def probe(campaign: Campaign, spec: ModelSpec, models: ModelCache, store: Store) -> Probe:
    """Load all that the campaign needs, and measure forward passes of its victim.

    Raises:
        UnlearnDiffError: the victim or the judge cannot be used.
        ModuleNotFoundError: a library is not installed.
    """
    import_libraries()
    recorder = ControlRecorder(control_campaign(campaign), store.disabled)
    engine, _ = LocalBackend().build(EngineRequest(campaign, located(spec), models, 1, recorder, None))
    return engine.probe()
