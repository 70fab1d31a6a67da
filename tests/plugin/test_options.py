"""Options: command line before ini before default; a wrong value is an error that names where it stands."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import pytest
from worlds import World, row

from pytest_unlearndiff.core.model_options import defense
from pytest_unlearndiff.plugin.options import OPTIONS
from pytest_unlearndiff.plugin.settings import Settings, command_line_options, write_option

PATH: dict[str, Any] = {"two": "two", "three": "three"}
FLAG: dict[str, Any] = {"no": False, "yes": True, "on": True}
# A few texts of each option, and what each means. A new option fails the first test until it is listed here.
SAMPLES: dict[str, dict[str, Any]] = {
    "model": {"two": ("two",), "two,three": ("two", "three"), "one.pt": ("one.pt",)},
    **dict.fromkeys(("base", "prompt_sets", "cache_dir"), PATH),
    **dict.fromkeys(("compile", "partial", "trust_pickle", "safety_checker", "exhaustive", "plan", "require"), FLAG),
    "model_version": {"1": "1", "release 1.0": "release 1.0"},
    "concepts": {"two": ("two",), "two:three": ("two", "three"), "one.pt": ("one.pt",)},
    "concept": {"church": ("church",), "church,fish": ("church", "fish"), "fish , dog": ("fish", "dog")},
    "suite": {"paper": "paper", "leaderboard": "leaderboard"},
    "max_asr": {"10%": "10%", "0.2": "0.2", "0": "0"},
    "max_recovery": {"50%": "50%", "1": "1"},
    "prompts": {"5": 5, "1": 1, "known": "known"},
    "case_numbers": {"17": (17,), "3, 4": (3, 4)},
    "attack": {"random": "random", "none": "none", "seed-search": "seed-search"},
    "schedule": {"paper": "paper", "fast": "fast"},
    "images_per_prompt": {"4": 4, "1": 1},
    "loss": {"classifier": "classifier", "denoise": "denoise"},
    "seed": {"7": 7, "0": 0},
    "batch_size": {"1": 1, "64": 64, "auto": None},
    "workers": {"2": "2", "auto": "auto", "ray": "ray", "ray://head:10001": "ray://head:10001", "auto/2": "auto/2"},
    "worker_timeout": {"90s": 90.0, "1h": 3600.0, "5m": 300.0},
    "device": {"cuda": "cuda", "cuda:1": "cuda:1", "mps": "mps", "cpu": "cpu"},
    "dtype": {"float16": "float16", "bfloat16": "bfloat16", "tf32": "tf32", "auto": "auto"},
    "negative_prompt": {"a church": "a church", "blurred, dark": "blurred, dark"},
    "sld": {"medium:a church": ("medium", "a church"), "max: x:y": ("max", "x:y")},
    "defense": {
        "negative-prompt:prompt=x": defense("negative-prompt", prompt="x"),
        "negative-prompt:prompt= a church": defense("negative-prompt", prompt="a church"),
        "safe-latent-diffusion:strength=max,concept=x,warmup=steps": defense(
            "safe-latent-diffusion", strength="max", concept="x", warmup="steps"
        ),
    },
    "sld_warmup": {"timesteps": "timesteps", "steps": "steps"},
    "cache": {"off": "off", "require": "require", "ro": "ro"},
    "progress": {"off": "off", "lines": "lines", "auto": "auto"},
    "time_budget": {"90s": 90.0, "55m": 3300.0, "1h30m": 5400.0},
    "report": {
        "html:a.html": (("html", "a.html"),),
        "json:a.json,md:b, c.md": (("json", "a.json"), ("md", "b, c.md")),
        "github, json:c:d": (("github", ""), ("json", "c:d")),
        "none": (),
    },
    "images": {"none": "none", "blurred": "blurred"},
}
PATHS = ("model", "base", "concepts", "prompt_sets", "cache_dir", "report")
NAMED = {option.name: option for option in OPTIONS}


def settings(pytester: pytest.Pytester, *arguments: str) -> Settings:
    return Settings.from_config(pytester.parseconfig(*arguments))


def ini(pytester: pytest.Pytester, name: str, text: str) -> None:
    pytester.makeini(f"[pytest]\nunlearndiff_{name} = {text}\n")


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    """What the samples of paths name."""
    (pytester.path / "one.pt").touch()
    for name in ("two", "three"):
        (pytester.path / name).mkdir()
    return pytester


def meaning(pytester: pytest.Pytester, name: str, value: Any) -> Any:
    """What an option's value is, seen from the folder pytest runs in."""
    if name not in PATHS:
        return value
    if value == () or (isinstance(value, tuple) and isinstance(value[0], tuple)):
        return tuple((kind, pytester.path / path) for kind, path in value)
    return tuple(pytester.path / part for part in value) if isinstance(value, tuple) else pytester.path / value


def test_every_option_is_tried_and_lands_in_the_settings() -> None:
    assert len(NAMED) == len(OPTIONS)
    assert set(NAMED) == set(SAMPLES) == {field.name for field in fields(Settings)}
    for option in OPTIONS:
        assert option.flag == f"--{option.ini.replace('_', '-')}"
        assert option.flag.startswith("--unlearndiff-")
        assert option.help[0].isupper()


def test_defaults(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig()
    assert command_line_options(config) == []
    default = Settings.from_config(config)
    assert (default.model, default.base, default.concepts, default.prompts) == ((), None, (), None)
    assert (default.cache, default.cache_dir, default.require) == ("rw", pytester.path / ".unlearndiff", False)


@pytest.mark.parametrize("name", NAMED)
def test_command_line_before_ini(folder: pytest.Pytester, name: str) -> None:
    samples = {text: meaning(folder, name, value) for text, value in SAMPLES[name].items()}
    for text, value in reversed(samples.items()):
        ini(folder, name, text)
        assert getattr(settings(folder), name) == value
    # The first sample is in the ini file now.
    by_flag = [*samples][1]
    option = NAMED[name]
    config = folder.parseconfig(f"{option.flag}={by_flag}" if option.metavar else option.flag)
    assert getattr(Settings.from_config(config), name) == samples[by_flag]
    assert command_line_options(config) == [(option, by_flag)]


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        *(("prompts", text, "a whole number of at least 1") for text in ("0", "-1", "1.5", "many")),
        ("batch_size", "0", "a whole number of at least 1 and at most 1,000,000, or auto"),
        ("workers", "0", "a number of at least 1"),
        *(("workers", text, "ray://HOST:PORT") for text in ("-2", "ray://head", "http://head:1")),
        *(("workers", text, "with /N for N on a GPU") for text in ("4/2", "auto/0")),
        *(("time_budget", text, "a time such as 90s, 55m or 1h30m") for text in ("soon", "1.5h", "55", "m")),
        ("worker_timeout", "soon", "a time such as"),
        ("seed", "-1", "a whole number of at least 0"),
        *(("case_numbers", text, "17,42") for text in ("1,,2", "a")),
        ("dtype", "bf16", "one of .*; did you mean 'bfloat16'"),
        ("cache", "readonly", "one of rw, ro, refresh, off, require"),
        ("progress", "bar", "lines"),
        *((name, "perhaps", "yes or no") for name in ("require", "trust_pickle")),
        (
            "attack",
            "p5d",
            "one of unlearndiff, p4d, ring-a-bell, mma-diffusion, concept-inversion, random, seed-search, transfer",
        ),
        *(("attack", text, "transfer:CSV") for text in ("transfer", "transfer:", "random:known.csv")),
        ("attack", "transfer:nowhere.csv", "there is no file .*nowhere.csv"),
        *(("sld", text, "a colon and what to guide away from") for text in ("medium", "weak:")),
        ("sld", "huge:church", "weak, medium, strong, max"),
        ("sld_warmup", "seconds", "timesteps"),
        *(("report", text, "KIND:PATH") for text in ("pdf:a.pdf", "html", "github:x")),
        ("report", "md:.", "is a folder"),
        ("schedule", "slow", "one of paper, paper.repeated-noise, fast, thorough"),
        ("loss", "hinge", "one of denoise, classifier"),
        ("concept", "church,,fish", "names with commas, such as church,fish"),
        ("device", "nonsense", "auto, cpu, cuda, cuda:N or mps"),
        ("device", "gpu", "auto, cpu, cuda, cuda:N or mps; did you mean 'cuda'?"),
        ("device", "cuda0", "auto, cpu, cuda, cuda:N or mps; did you mean 'cuda:0'?"),
    ],
)
def test_bad_value_names_origin_and_allowed_form(pytester: pytest.Pytester, name: str, text: str, wanted: str) -> None:
    option = NAMED[name]
    if option.metavar:
        with pytest.raises(pytest.UsageError, match=f"{option.flag}: '{text}' .*{wanted}"):
            settings(pytester, f"{option.flag}={text}")
    ini(pytester, name, text)
    with pytest.raises(pytest.UsageError, match=f"{option.ini}: '{text}' .*{wanted}"):
        settings(pytester)


@pytest.mark.parametrize(
    ("argument", "line", "meant"),
    [
        ("--unlearndiff-promts=3", "", "--unlearndiff-promts: did you mean '--unlearndiff-prompts'"),
        ("", "unlearndiff_promts = 3", "unlearndiff_promts in .*pytest.ini: did you mean 'unlearndiff_prompts'"),
        ("", "unlearndiff-base = base", "unlearndiff-base in .*: did you mean 'unlearndiff_base'"),
    ],
)
def test_mistyped_option_is_refused_with_the_one_that_is_meant(
    world: World, argument: str, line: str, meant: str
) -> None:
    world.ini(line)
    result = world.bare(*filter(None, [argument]))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.re_match_lines([f"ERROR: there is no option {meant}"])


def test_number_of_prompts_that_changes_nothing_is_told(world: World) -> None:
    world.concept()
    world.gate("max_asr=0.5, prompts=5", "test_own")
    world.gate("max_asr=0.5", "test_free")
    result = world.ask("--unlearndiff-prompts=4", "--collect-only")
    result.stdout.fnmatch_lines(
        ["*prompts=4 changes nothing for 1 gate with a number of its own: test_own.py::test_own"]
    )


def test_paths(folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an ini file they count from the root, on the command line from where pytest is started."""
    for name in ("model", "base", "concepts"):
        with pytest.raises(pytest.UsageError, match=rf"--unlearndiff-{name}.*there is nothing at .*nowhere"):
            settings(folder, f"--unlearndiff-{name}=nowhere")
    (folder.path / "run-10:30").mkdir()
    for name in ("model", "base", "cache_dir"):
        value = getattr(settings(folder, f"{NAMED[name].flag}=run-10:30"), name)
        assert value == ((folder.path / "run-10:30",) if name == "model" else folder.path / "run-10:30")
    several = settings(folder, f"--unlearndiff-concepts=two{os.pathsep}three")
    assert several.concepts == (folder.path / "two", folder.path / "three")
    monkeypatch.setenv("HOME", str(folder.path))
    assert settings(folder, "--unlearndiff-model=~/two").model == (folder.path / "two",)
    ini(folder, "model", "two")
    below = folder.mkdir("below")
    monkeypatch.chdir(below)
    (below / "own").mkdir()
    config = f"--config-file={folder.path / 'tox.ini'}"
    assert settings(folder, f"--rootdir={folder.path}", config).model == (folder.path / "two",)
    (below / "two,three").mkdir()
    assert settings(folder, "--unlearndiff-model=two,three").model == (below / "two,three",)
    assert settings(folder, config, "--unlearndiff-model=own").model == (below / "own",)


@pytest.mark.skipif(pytest.version_tuple < (9, 2), reason="one option of several types is new in pytest 9.2")
@pytest.mark.parametrize(
    ("line", "name", "value"), [("batch_size = 4", "batch_size", 4), ("require = true", "require", True)]
)
def test_typed_toml_values(world: World, line: str, name: str, value: object) -> None:
    (world.path / "pytest.ini").unlink()
    world.file("pyproject.toml", f"[tool.pytest]\nunlearndiff_{line}\n")
    assert getattr(settings(world.pytester), name) == value


def test_help_and_markers(world: World) -> None:
    result = world.bare("--help")
    assert result.ret == 0
    lines = result.outlines
    start = lines.index("unlearned diffusion models under adversarial prompts:")
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith(" "))
    group, everything = "\n".join(lines[start:end]), "\n".join(lines)
    for option in OPTIONS:
        assert f"  {option.flag}" in group
        assert everything.count(f"  {option.flag}=") + everything.count(f"  {option.flag}\n") <= 1
        assert f"  {option.ini} " in everything
    markers = world.bare("--markers")
    markers.stdout.fnmatch_lines(["@pytest.mark.unlearndiff(concept, [*], max_asr=None, *"])


def test_case_numbers(world: World) -> None:
    world.know("brrrrrrrrr")
    world.gate("max_asr=0.5")
    assert " 1/2 = 50.0% " in row(world.run("--unlearndiff-case-numbers=100,104"))


def test_options_in_the_key(world: World) -> None:
    """What guides images and the type of weights are part of it, how models are loaded and computed is not."""
    world.concept()

    def digest(*options: str) -> str:
        return str(world.campaign("church", *(f"--unlearndiff-{option}" for option in options))[0].key.digest)

    plain, half = digest(), digest("dtype=float16")
    others = [digest("sld=medium:church"), digest("negative-prompt=church"), digest("safety-checker")]
    others += [half, digest("dtype=bfloat16"), digest("model-version=1"), digest("model-version=2")]
    assert len({plain, *others}) == len(others) + 1
    for same in ("partial", "trust-pickle", "sld-warmup=steps", "device=cpu", "device=cuda", "device=mps", "compile"):
        assert digest(same) == plain, same
    assert digest("dtype=tf32") == digest("device=auto", "dtype=float32") == plain
    of_version, of_none = (
        world.campaign("church", *options)[0].fingerprint for options in (("--unlearndiff-model-version=1",), ())
    )
    assert of_version.targets_digest == of_none.targets_digest


def test_option_as_written_in_a_replay() -> None:
    assert write_option(NAMED["partial"], "yes") == "--unlearndiff-partial"
    assert write_option(NAMED["partial"], "no") == ""
    assert write_option(NAMED["sld"], "max:x") == "--unlearndiff-sld=max:x"


def test_workers_beside_xdist_are_refused(world: World) -> None:
    world.concept()
    world.gate("max_asr='10%'")
    result = world.attack("-n2", "--unlearndiff-workers=2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = "--unlearndiff-workers=2 and -n (pytest-xdist) both start processes that attack: leave one of them out"
    assert message in result.stderr.str()
