"""Keep the libraries' own deprecations out of the user's session."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence_libraries() -> Iterator[None]:
    """No bars of the libraries, and no advice about models that they load, which are the user's business alone."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    both = (diffusers_logging, transformers_logging)
    before = [(each, each.get_verbosity(), each.is_progress_bar_enabled()) for each in both]
    try:
        for each in both:
            each.disable_progress_bar()
            each.set_verbosity_error()
        yield
    finally:
        for each, level, bars in before:
            each.set_verbosity(level)
            if bars:
                each.enable_progress_bar()


@contextmanager
def library_warnings_ignored() -> Iterator[None]:
    """Ignore deprecations that diffusers and transformers raise about their own code.

    They are nobody's news in a gate, and a suite with ``filterwarnings = error`` would fail on them.
    """
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(diffusers|transformers|huggingface_hub)\.")
        yield


@contextmanager
def silence_safety_checker() -> Iterator[None]:
    """No line a batch about images that a safety checker blackened: an attack draws hundreds."""
    logger = logging.getLogger("diffusers.pipelines.stable_diffusion.safety_checker")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def tracing_warnings_ignored() -> Iterator[None]:
    """No warning while ``torch.compile`` traces: it looks at what warns, and an error there ends it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
