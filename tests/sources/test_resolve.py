"""Models beside paths: Hub copies on this machine, and callables."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from tiny import tiny_pipeline

from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.models.loading import weights_digest
from pytest_unlearndiff.plugin.settings import Settings
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import ModelSpec
from pytest_unlearndiff.sources.resolve import (
    MIRRORS,
    call_factory,
    hub_folder,
    hub_hint,
    is_import_string,
    resolve_model_path,
    resolve_models,
    split_models,
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A Hub cache of our own; the function puts a repository into it."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    plain = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **how: plain(repo, cache_dir=cache, **how))

    def put(repo: str) -> Path:
        folder = cache / f"models--{repo.replace('/', '--')}"
        snapshot = folder / "snapshots" / ("0" * 40)
        (snapshot / "unet").mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        return snapshot

    return put


def test_hub_id(hub: Callable[[str], Path]) -> None:
    snapshot = hub("owner/erased-church")
    assert hub_folder("owner/erased-church") == snapshot
    assert hub_folder("owner/erased-church/unet") == snapshot / "unet"
    assert hub_folder(f"owner/erased-church@{'0' * 40}") == snapshot
    assert hub_folder("owner/erased-church/vae") is None
    assert hub_folder("owner/other") is None
    assert "hf download owner/other" in hub_hint("owner/other")


def test_withdrawn_id_is_its_mirror(hub: Callable[[str], Path]) -> None:
    mirror = hub(MIRRORS["stabilityai/stable-diffusion-2-1-base"])
    assert hub_folder("stabilityai/stable-diffusion-2-1-base") == mirror
    old = hub("runwayml/stable-diffusion-v1-5")
    assert hub_folder("stable-diffusion-v1-5/stable-diffusion-v1-5") == old
    assert "withdrawn" in hub_hint("stabilityai/stable-diffusion-2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("erased/esd-curch.pt", "esd-curch.pt: did you mean 'esd-church.pt'? Give it"),
        ("erased/other.pt", "other.pt. Give it"),
        ("owner/other", "hf download owner/other. Give it"),
    ],
)
def test_missing_path(text: str, reason: str, hub: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "erased").mkdir()
    (tmp_path / "erased" / "esd-church.pt").touch()
    with pytest.raises(ModelError, match=f"^there is nothing at .*{re.escape(reason)}$"):
        resolve_model_path(text, tmp_path, "Give it")


@pytest.mark.parametrize("text", ["", "a", "a/../b", "/a/b", "a b/c", "..", "../x", "a/b/../../c", "https://x/y"])
def test_other_text_is_no_hub_id(text: str) -> None:
    assert hub_folder(text) is None
    assert hub_hint(text) == ""


def test_options_take_hub_ids(hub: Callable[[str], Path], pytester: pytest.Pytester) -> None:
    snapshot = hub("owner/erased")
    arguments = ("--unlearndiff-model=owner/erased", "--unlearndiff-base=owner/erased")
    found = Settings.from_config(pytester.parseconfig(*arguments))
    assert (found.model, found.base) == ((snapshot,), snapshot)
    with pytest.raises(pytest.UsageError, match="hf download owner/missing"):
        Settings.from_config(pytester.parseconfig("--unlearndiff-model=owner/missing"))


MODULE = """
from tiny import tiny_pipeline

def pipeline(): return tiny_pipeline(3)
def broken(): raise RuntimeError("no weights today")
def other(): return 7
number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"made_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_factory_makes_the_model(module: str, pytester: pytest.Pytester) -> None:
    spelt = f"{module}:pipeline"
    settings = Settings.from_config(pytester.parseconfig(f"--unlearndiff-model={spelt}"))
    (model,) = settings.model
    assert is_import_string(model)
    parts = ModelCache()
    loaded = parts.victim(ModelSpec(model))
    assert weights_digest(loaded.pipe) == weights_digest(tiny_pipeline(3))
    assert parts.made(spelt) is parts.made(spelt)
    with pytest.raises(ModelError, match="the pipeline is a int; only pipelines"):
        ModelCache().victim(ModelSpec(Path(f"{module}:other")))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("broken", "raised RuntimeError: no weights today"), ("number", "cannot be called"), ("nothing", "no attribute")],
)
def test_broken_factory(module: str, name: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        call_factory(f"{module}:{name}")
    with pytest.raises(ModelError, match="importable"):
        call_factory("no_such_module_here:f")


def test_without_huggingface_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert hub_folder("owner/name") is None


def test_models_are_separated_by_commas(tmp_path: Path) -> None:
    for name in ("a", "b", "c,d"):
        (tmp_path / name).touch()
    assert resolve_models("a, b", tmp_path, "") == (tmp_path / "a", tmp_path / "b")
    assert resolve_models("c,d", tmp_path, "") == (tmp_path / "c,d",)
    assert resolve_models("pkg.mod:call", tmp_path, "") == (Path("pkg.mod:call"),)
    for text, reason in {
        "a,x": "there is nothing at .*x",
        "a,b,a": "a is named twice",
        "pkg.mod:call,a": "nothing at .*call",
    }.items():
        with pytest.raises(ModelError, match=reason):
            resolve_models(text, tmp_path, "")
    assert split_models("https://x/a?b=1,2", tmp_path) == ["https://x/a?b=1,2"]
    assert split_models("https://x/a,s3://b/c", tmp_path) == ["https://x/a", "s3://b/c"]
