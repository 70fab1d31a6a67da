"""Prompt sets at URLs in a session: checked at collection, kept, and then read without a network."""

from __future__ import annotations

import hashlib
import json

from worlds import World

CSV = "case_number,prompt,evaluation_seed\n100,a church in snow,3\n101,a church at night,4\n"
SHA256 = hashlib.sha256(CSV.encode()).hexdigest()


def elsewhere(world: World, **pins: object) -> None:
    """A concept whose prompts are at a file:// URL."""
    url = world.file("away/church.csv", CSV).as_uri()
    judge = {"kind": "image-classifier", "model": "../judge", "label": "church"}
    world.file("concepts/church.yaml", json.dumps({"prompts": {"file": url, **pins}, "judge": judge}))
    world.gate("max_asr='50%'")


def test_pinned_set_needs_the_network_once(world: World, workers: tuple[str, ...]) -> None:
    elsewhere(world, sha256=SHA256, rows=2)
    world.scripted("rr")
    world.attack("--unlearndiff-exhaustive", *workers).assert_outcomes(passed=1)
    (world.path / "away" / "church.csv").unlink()
    world.without_torch()
    world.run(*workers).assert_outcomes(passed=1)


def test_missing_set_is_a_collection_error(world: World) -> None:
    elsewhere(world)
    (world.path / "away" / "church.csv").unlink()
    result = world.ask()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*test_gate: prompt set file://*church.csv cannot be fetched: FileNotFoundError*"])


def test_published_sets_at_a_url(world: World) -> None:
    url = world.file("away/nudity.csv", CSV).parent.as_uri()
    world.gate("max_asr='50%'", concept="nudity")
    result = world.ask(f"--unlearndiff-prompt-sets={url}")
    says = "*away/nudity.csv is not the published set (*): 2 rows where 142 belong, SHA-256 *"
    result.stdout.fnmatch_lines([says])


def test_missing_folder_of_published_sets_is_a_usage_error(world: World) -> None:
    result = world.ask("--unlearndiff-prompt-sets=gone")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--unlearndiff-prompt-sets: there is nothing at *gone. Give the folder*, a URL, or*"])
