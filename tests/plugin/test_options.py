"""Options: command line before ini before default; a wrong value is an error that names where it stands."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from worlds import MODEL, REQUIRE, World, section

from pytest_unlearndiff.core.model_options import defense
from pytest_unlearndiff.plugin.options import OPTIONS, Option
from pytest_unlearndiff.plugin.settings import Settings, command_line_options, write_option

# A few texts an option, and what each means. A new option fails the first test until it is listed here.
SAMPLES: dict[str, dict[str, Any]] = {
    "model": {"one.pt": "one.pt", "two": "two", "three": "three"},
    "model_version": {"1": "1", "2024-06-01": "2024-06-01", "release 1.0": "release 1.0"},
    "base": {"one.pt": "one.pt", "two": "two", "three": "three"},
    "concepts": {"two": ("two",), "two:three": ("two", "three"), "one.pt": ("one.pt",)},
    "concept": {"church": ("church",), "church,fish": ("church", "fish"), "fish , dog": ("fish", "dog")},
    "max_asr": {"10%": "10%", "0.2": "0.2", "0": "0"},
    "prompt_sets": {"two": "two", "three": "three", "four": "four"},
    "prompts": {"5": 5, "1": 1, "142": 142, "known": "known"},
    "case_numbers": {"17": (17,), "17,42": (17, 42), "3, 4": (3, 4)},
    "attack": {"random": "random", "none": "none", "seed-search": "seed-search"},
    "schedule": {"paper": "paper", "fast": "fast"},
    "loss": {"classifier": "classifier", "denoise": "denoise"},
    "seed": {"7": 7, "0": 0, "99": 99},
    "batch_size": {"1": 1, "2": 2, "64": 64, "auto": None},
    "workers": {"2": "2", "auto": "auto", "ray": "ray", "ray://head:10001": "ray://head:10001", "auto/2": "auto/2"},
    "worker_timeout": {"90s": 90.0, "1h": 3600.0, "5m": 300.0},
    "device": {"cuda": "cuda", "cuda:1": "cuda:1", "mps": "mps", "cpu": "cpu"},
    "dtype": {"float16": "float16", "bfloat16": "bfloat16", "tf32": "tf32", "auto": "auto"},
    "compile": {"yes": True, "no": False, "on": True},
    "partial": {"yes": True, "no": False, "on": True},
    "trust_pickle": {"yes": True, "no": False, "on": True},
    "negative_prompt": {"a church": "a church", "blurred, dark": "blurred, dark", "x": "x"},
    "sld": {"medium:a church": ("medium", "a church"), "max: x:y": ("max", "x:y"), "weak:fish": ("weak", "fish")},
    "defense": {
        "negative-prompt:prompt=x": defense("negative-prompt", prompt="x"),
        "negative-prompt:prompt= a church": defense("negative-prompt", prompt="a church"),
        "safe-latent-diffusion:strength=max,concept=x,warmup=steps": defense(
            "safe-latent-diffusion", strength="max", concept="x", warmup="steps"
        ),
    },
    "sld_warmup": {"timesteps": "timesteps", "steps": "steps"},
    "safety_checker": {"yes": True, "no": False, "on": True},
    "cache": {"off": "off", "require": "require", "ro": "ro"},
    "cache_dir": {"two": "two", "three": "three", "four": "four"},
    "progress": {"off": "off", "lines": "lines", "auto": "auto"},
    "exhaustive": {"yes": True, "no": False, "on": True},
    "time_budget": {"90s": 90.0, "55m": 3300.0, "1h30m": 5400.0, "2h": 7200.0},
    "plan": {"yes": True, "no": False, "on": True},
    "report": {
        "html:a.html": (("html", "a.html"),),
        "json:a.json,md:b, c.md": (("json", "a.json"), ("md", "b, c.md")),
        "github, json:c:d": (("github", ""), ("json", "c:d")),
    },
    "images": {"none": "none", "blurred": "blurred"},
    "require": {"yes": True, "no": False, "on": True},
}
PATHS = ("model", "base", "concepts", "prompt_sets", "cache_dir", "report")
OTHERS = [option.name for option in OPTIONS if option.name not in PATHS]
NAMED = {option.name: option for option in OPTIONS}


def settings(pytester: pytest.Pytester, *arguments: str) -> Settings:
    return Settings.from_config(pytester.parseconfig(*arguments))


def ini(pytester: pytest.Pytester, name: str, text: str) -> None:
    pytester.makeini(f"[pytest]\nunlearndiff_{name} = {text}\n")


def places(pytester: pytest.Pytester) -> None:
    (pytester.path / "one.pt").touch()
    for folder in ("two", "three", "four"):
        (pytester.path / folder).mkdir()


def on_disk(pytester: pytest.Pytester, value: Any) -> Any:
    """What a path option's value is, seen from the folder pytest runs in."""
    if isinstance(value, tuple) and isinstance(value[0], tuple):
        return tuple((kind, pytester.path / path) for kind, path in value)
    return tuple(pytester.path / part for part in value) if isinstance(value, tuple) else pytester.path / value


def test_every_option_is_tried_below_and_lands_in_the_settings() -> None:
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names)
    assert set(names) == set(SAMPLES) == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_both_names_agree(option: Option) -> None:
    assert option.flag == f"--{option.ini.replace('_', '-')}"
    assert option.flag.startswith("--unlearndiff-")
    assert option.help[0].isupper()


def test_nothing_given(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfig()
    assert command_line_options(config) == []
    found = Settings.from_config(config)
    assert (found.model, found.base, found.concepts, found.prompts, found.case_numbers) == (None, None, (), None, None)
    assert (found.cache, found.cache_dir, found.require) == ("rw", pytester.path / ".unlearndiff", False)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in OTHERS for text in SAMPLES[name]])
def test_every_value_is_read_from_ini(pytester: pytest.Pytester, name: str, text: str) -> None:
    ini(pytester, name, text)
    assert getattr(settings(pytester), name) == SAMPLES[name][text]


@pytest.mark.parametrize("name", [option.name for option in OPTIONS if option.metavar])
def test_command_line_before_ini(pytester: pytest.Pytester, name: str) -> None:
    places(pytester)
    by_ini, by_flag = list(SAMPLES[name])[:2]
    means = {text: on_disk(pytester, value) if name in PATHS else value for text, value in SAMPLES[name].items()}
    ini(pytester, name, by_ini)
    assert getattr(settings(pytester), name) == means[by_ini]
    config = pytester.parseconfig(f"{NAMED[name].flag}={by_flag}")
    assert getattr(Settings.from_config(config), name) == means[by_flag]
    assert command_line_options(config) == [(NAMED[name], by_flag)]


def test_flag_needs_no_value_and_overrides_ini(pytester: pytest.Pytester) -> None:
    ini(pytester, "require", "no")
    assert settings(pytester, "--unlearndiff-require").require is True


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("prompts", "0", "a whole number of at least 1"),
        ("prompts", "-1", "a whole number of at least 1"),
        ("prompts", "1.5", "a whole number of at least 1"),
        ("prompts", "many", "a whole number of at least 1"),
        ("batch_size", "0", "a whole number of at least 1 and at most 1,000,000, or auto"),
        ("workers", "0", "a number of at least 1"),
        ("workers", "-2", "ray://HOST:PORT"),
        ("workers", "ray://head", "ray://HOST:PORT"),
        ("workers", "4/2", "with /N for N on a GPU"),
        ("workers", "auto/0", "with /N for N on a GPU"),
        ("workers", "http://head:1", "ray://HOST:PORT"),
        ("worker_timeout", "soon", "a time such as"),
        ("seed", "-1", "a whole number of at least 0"),
        ("case_numbers", "1,,2", "17,42"),
        ("case_numbers", "a", "17,42"),
        ("dtype", "float8", "float16"),
        ("cache", "readonly", "require"),
        ("progress", "bar", "lines"),
        ("require", "perhaps", "yes or no"),
        ("attack", "p5d", "seed-search"),
        ("attack", "transfer", "transfer:CSV"),
        ("attack", "transfer:", "transfer:CSV"),
        ("attack", "transfer:nowhere.csv", "there is no file .*nowhere.csv"),
        ("attack", "random:known.csv", "transfer:CSV"),
        ("sld", "medium", "a colon and what to guide away from"),
        ("sld", "huge:church", "weak, medium, strong, max"),
        ("sld", "weak:", "a colon and what to guide away from"),
        ("sld_warmup", "seconds", "timesteps"),
        ("trust_pickle", "perhaps", "yes or no"),
        ("report", "pdf:a.pdf", "KIND:PATH"),
        ("report", "html", "KIND:PATH"),
        ("report", "github:x", "KIND:PATH"),
        ("report", "md:.", "is a folder"),
        ("schedule", "slow", "one of paper, paper.repeated-noise, fast"),
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


@pytest.mark.parametrize("name", ["model", "base", "concepts"])
def test_missing_path_is_a_usage_error(pytester: pytest.Pytester, name: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"--unlearndiff-{name}.*nowhere"):
        settings(pytester, f"--unlearndiff-{name}=nowhere")


@pytest.mark.parametrize("name", ["model", "base", "cache_dir"])
def test_path_with_a_colon(pytester: pytest.Pytester, name: str) -> None:
    (pytester.path / "run-10:30").mkdir()
    found = settings(pytester, f"{NAMED[name].flag}=run-10:30")
    assert getattr(found, name) == pytester.path / "run-10:30"


def test_paths_in_ini_files_count_from_the_root(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    places(pytester)
    ini(pytester, "model", "two")
    sub = pytester.mkdir("sub")
    monkeypatch.chdir(sub)
    (sub / "mine").mkdir()
    found = settings(pytester, f"--rootdir={pytester.path}", f"--config-file={pytester.path / 'tox.ini'}")
    assert found.model == pytester.path / "two"
    found = settings(pytester, f"--config-file={pytester.path / 'tox.ini'}", "--unlearndiff-model=mine")
    assert found.model == sub / "mine"


def test_home_path_is_expanded(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    places(pytester)
    monkeypatch.setenv("HOME", str(pytester.path))
    assert settings(pytester, "--unlearndiff-model=~/two").model == Path(pytester.path / "two")


def test_concepts_takes_several_paths(world: World) -> None:
    given = settings(world.pytester, f"--unlearndiff-concepts=base{os.pathsep}judge")
    assert given.concepts == (world.path / "base", world.path / "judge")


@pytest.mark.skipif(pytest.version_tuple < (9, 2), reason="one option of several types is new in pytest 9.2")
@pytest.mark.parametrize(
    ("line", "name", "value"), [("batch_size = 4", "batch_size", 4), ("require = true", "require", True)]
)
def test_typed_toml_values_are_understood(world: World, line: str, name: str, value: object) -> None:
    (world.path / "pytest.ini").unlink()
    world.file("pyproject.toml", f"[tool.pytest]\nunlearndiff_{line}\n")
    assert getattr(settings(world.pytester), name) == value


def test_help_lists_every_option_in_one_group(world: World) -> None:
    result = world.bare("--help")
    assert result.ret == 0
    lines = result.outlines
    start = lines.index("unlearned diffusion models under adversarial prompts:")
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith(" "))
    group = "\n".join(lines[start:end])
    everything = "\n".join(lines)
    for option in OPTIONS:
        assert f"  {option.flag}" in group
        assert everything.count(f"  {option.flag}=") + everything.count(f"  {option.flag}\n") <= 1
        assert f"  {option.ini} " in everything


def test_markers_shows_the_marker(world: World) -> None:
    result = world.bare("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.unlearndiff(concept, [*], max_asr=None, *"])


def test_a_session_of_only_some_cases(world: World) -> None:
    world.know("brrrrrrrrr")
    world.gate("max_asr=0.5")
    result = world.bare(*MODEL, REQUIRE, "--unlearndiff-case-numbers=100,104")
    assert [line for line in section(result) if " 1/2 = 50.0% " in line]


def test_a_store_somewhere_else(world: World) -> None:
    world.know("rrrrrrrrrr")
    world.gate("max_asr=0.1")
    assert world.run("--unlearndiff-cache-dir=elsewhere").ret == 1
    Path(world.path / ".unlearndiff").rename(world.path / "elsewhere")
    assert world.run("--unlearndiff-cache-dir=elsewhere").ret == 0


def test_guidance_is_part_of_the_key_and_loading_options_are_not(world: World) -> None:
    world.concept()
    plain = world.campaign("church")[0].key.digest
    changing = (
        "--unlearndiff-sld=medium:church",
        "--unlearndiff-negative-prompt=church",
        "--unlearndiff-safety-checker",
    )
    for arguments in ((option,) for option in changing):
        assert world.campaign("church", *arguments)[0].key.digest != plain
    for arguments in (("--unlearndiff-partial",), ("--unlearndiff-trust-pickle",), ("--unlearndiff-sld-warmup=steps",)):
        assert world.campaign("church", *arguments)[0].key.digest == plain


def test_the_type_of_the_weights_is_part_of_the_key_and_devices_are_not(world: World) -> None:
    world.concept()

    def digest(*options: str) -> str:
        return str(world.campaign("church", *(f"--unlearndiff-{option}" for option in options))[0].key.digest)

    assert digest() == digest("device=cpu") == digest("device=cuda") == digest("dtype=tf32") == digest("compile")
    assert digest() == digest("device=auto") == digest("device=mps") == digest("device=auto", "dtype=float32")
    assert len({digest(f"dtype={name}") for name in ("float32", "float16", "bfloat16")}) == 3


def test_a_flag_is_replayed_as_a_flag() -> None:
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
