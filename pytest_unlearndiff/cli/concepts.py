"""What the commands on concepts share."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core.concept_file import ConceptLibrary
from ..core.prompt_source import place_of
from ..sources.prompt_set_cache import PromptSetCache
from .arguments import path_of


def add_concepts(parser: argparse.ArgumentParser) -> None:
    """Where concepts are, and what they need that does not come with this project."""
    parser.add_argument(
        "--concepts", type=path_of, action="append", default=[], help="folder or file of concepts; repeat"
    )
    parser.add_argument("--prompt-sets", help="folder, URL or Hub data set of what authors publish, such as nudity.csv")


def library_of(arguments: argparse.Namespace) -> ConceptLibrary:
    """The concepts that a command's arguments lead to."""
    published = place_of(arguments.prompt_sets, Path()) if arguments.prompt_sets else None
    copies = PromptSetCache(getattr(arguments, "cache_dir", Path(".unlearndiff")))
    return ConceptLibrary([Path("concepts"), *arguments.concepts], published, copies)
