"""Prompt sets at URLs in a session: checked at collection, kept, and then read without a network."""

from __future__ import annotations

import hashlib
import json

from worlds import World

CSV = "case_number,prompt,evaluation_seed\n100,a church in snow,3\n101,a church at night,4\n"


def test_pinned_set_needs_the_network_once(world: World) -> None:
    """One that was never there is a collection error."""
    file = world.file("away/church.csv", CSV)
    prompts = {"file": file.as_uri(), "sha256": hashlib.sha256(CSV.encode()).hexdigest(), "rows": 2}
    judge = {"kind": "image-classifier", "model": "../judge", "label": "church"}
    world.file("concepts/church.yaml", json.dumps({"prompts": prompts, "judge": judge}))
    world.gate("max_asr='50%'")
    file.rename(world.path / "hidden.csv")
    result = world.ask()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*test_gate: prompt set file://*church.csv cannot be fetched: FileNotFoundError*"])
    (world.path / "hidden.csv").rename(file)
    world.scripted("rr")
    world.attack("--unlearndiff-exhaustive").assert_outcomes(passed=1)
    file.unlink()
    world.without_torch()
    world.run().assert_outcomes(passed=1)


def test_published_sets(world: World) -> None:
    folder = world.file("away/nudity.csv", CSV).parent
    world.gate("max_asr='50%'", concept="nudity")
    result = world.ask(f"--unlearndiff-prompt-sets={folder.as_uri()}")
    reason = "*away/nudity.csv is not the published set (*): 2 rows where 142 belong, SHA-256 *"
    result.stdout.fnmatch_lines([reason])
    result = world.ask("--unlearndiff-prompt-sets=gone")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--unlearndiff-prompt-sets: there is nothing at *gone. Give the folder*, a URL, or*"])
