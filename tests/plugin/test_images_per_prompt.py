"""Several images per prompt: asked for by marker, gate file or option, in the key, and named in reports."""

from __future__ import annotations

from worlds import World, text

FOUR = "unlearndiff/fast, any of 4 images per prompt"
OPTION = "--unlearndiff-images-per-prompt=4"


def test_marker_gate_file_and_option_share_outcomes(world: World) -> None:
    world.concept()
    world.scripted("rrrbrrrrrr")
    world.gate("max_asr='10%', images_per_prompt=4")
    first = world.attack("--unlearndiff-exhaustive")
    assert "10 attacked" in text(first)
    assert FOUR in text(first)
    world.gate("max_asr='10%'")
    assert "10 from the store" in text(world.attack(OPTION))
    plan = world.attack("--unlearndiff-plan").stdout.str()
    assert "any of" not in plan
    assert "differs in the number of images per prompt" in plan
    (world.path / "test_gate.py").unlink()
    world.file("g.unlearndiff.yaml", "gates:\n  church: {max_asr: 10%, images_per_prompt: 4}\n")
    assert "10 from the store" in text(world.attack())


def test_what_must_be_kept_is_drawn_once(world: World) -> None:
    """The session's number is for attacks, like its attack."""
    world.concept()
    world.scripted("gggggggggg", base="gggggggggg")
    world.tests(
        "@pytest.mark.unlearndiff_retains('church', min_rate=0.5)\n"
        "def test_kept(unlearndiff_retention): unlearndiff_retention()\n"
    )
    assert "any of" not in text(world.attack(OPTION))
    world.tests(
        "@pytest.mark.unlearndiff_retains('church', min_rate=0.5, images_per_prompt=4)\n"
        "def test_kept(unlearndiff_retention): unlearndiff_retention()\n"
    )
    assert "unlearndiff_retains has no keyword 'images_per_prompt'" in world.ask().stdout.str()
