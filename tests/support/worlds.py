"""A pytest folder whose store knows outcomes already, so that verdicts are tested without a model."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import textwrap
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_unlearndiff.__main__ import main
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.plugin.gate_run import campaign_of
from pytest_unlearndiff.plugin.markers import ATTACK, read_gate
from pytest_unlearndiff.plugin.model_under_test import gate_source
from pytest_unlearndiff.plugin.session import state_of
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_spec import Fingerprint
from pytest_unlearndiff.runs.positive_control import base_campaign

STATUS = {
    "g": Status.HIT_WITHOUT_ATTACK,
    "b": Status.HIT_UNDER_ATTACK,
    "r": Status.RESISTED,
    "k": Status.BLOCKED,
    "e": Status.ERROR,
}
FIRST_CASE = 100
MODEL = ("--unlearndiff-model=model.safetensors", "--unlearndiff-base=base")
REQUIRE = "--unlearndiff-cache=require"

# What Python, pytest and pytester leave is not the plugin's doing.
_NOT_OURS = {"__pycache__", ".pytest_cache", "stdout", "stderr"}

_ENGINE = """
import sys, time, types

import pytest
from pytest_unlearndiff.runs.engine_state import EngineState
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.core.outcome import Outcome, Status

STATUS = {
    "g": Status.HIT_WITHOUT_ATTACK,
    "b": Status.HIT_UNDER_ATTACK,
    "r": Status.RESISTED, "k": Status.BLOCKED, "e": Status.ERROR
}
LOADING = "pytest_unlearndiff.models.loading"


class ScriptedEngine:
    active = 1
    state = EngineState()
    worker_count = 0

    def __init__(self, campaign, control):
        base = campaign.fingerprint.victim == campaign.fingerprint.targets_digest
        letters = SCRIPT["base"] if base else SCRIPT["letters"]
        self.letters = {p.digest: letter for p, letter in zip(campaign.concept.prompts, letters)}
        targets = SCRIPT["base"] if campaign.attack.draws_targets else ""
        self.targets = {p.digest: letter for p, letter in zip(campaign.concept.prompts, targets)}
        self.control = control

    def take_checkpoints(self):
        return {}

    def run(self, prompts, checkpoints):
        for prompt in prompts:
            deadline = time.monotonic() + SCRIPT["seconds"]
            while time.monotonic() < deadline:
                time.sleep(0.002)
                yield None
            letter = self.letters[prompt.digest]
            if letter == "!":
                fail()
            if letter != "g" and prompt.digest in self.targets:
                self.control.add([Outcome(prompt.digest, STATUS[self.targets[prompt.digest]])])
            broken = {"adversarial": "zq " + prompt.text, "inserted": "zq"} if letter == "b" else {}
            error = "the judge choked" if letter == "e" else None
            yield Outcome(prompt.digest, STATUS[letter], detail="church 0.99", error=error, **broken)

    def described(self, source):
        return {}


def scripted_build(self, request):
    engine = ScriptedEngine(request.campaign, request.control)
    return engine, engine.described(request.spec)


def pytest_configure(config):
    patch = pytest.MonkeyPatch()
    patch.setattr(LocalBackend, "build", scripted_build)
    if LOADING not in sys.modules:  # spares torch, until this session ends
        patch.setitem(sys.modules, LOADING, types.ModuleType("loading"))
    config.add_cleanup(patch.undo)
"""


class World:
    """A folder with a concept, a model under test, its base, a judge and a store; none of them real."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path: Path = pytester.path
        self.apart = False
        self.ini()
        self.file("model.safetensors", "weights:{unlearned}")  # which begins as such a file does
        self.file("base/model_index.json", "{}")
        self.file("base/unet.safetensors", "un-erased weights")
        self.file("judge/config.json", "{}")
        self.file("judge/model.safetensors", "judge weights")

    def file(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def ini(self, *lines: str) -> None:
        """Write pytest.ini; whatever warns fails, and what costs most of a start or changes an order stays out."""
        fixed = [
            "[pytest]",
            "filterwarnings = error",
            "addopts = -p no:hypothesispytest -p no:randomly -p no:rerunfailures -p no:metadata",
        ]
        self.file("pytest.ini", "\n".join([*fixed, *lines]) + "\n")

    def concept(self, name: str = "church", count: int = 10) -> None:
        """Write a concept; its prompts have case numbers from FIRST_CASE."""
        rows = [f"{FIRST_CASE + i},a photo of a {name} number {i},{i},7.5" for i in range(count)]
        head = "case_number,prompt,evaluation_seed,evaluation_guidance"
        self.file(f"concepts/{name}.csv", "\n".join([head, *rows]))
        judge = {"kind": "image-classifier", "model": "../judge", "label": name}
        self.file(f"concepts/{name}.yaml", json.dumps({"prompts": f"{name}.csv", "judge": judge}))

    def campaign(self, concept: str = "church", *options: str) -> tuple[Campaign, Any]:
        """The campaign that a session with these options asks the store for, and that store."""
        config = self.pytester.parseconfig(*MODEL, *options)
        state = state_of(config)
        request = read_gate(ATTACK, {"concept": concept}, state.settings, state.library(self.path), self.path)
        return campaign_of(request, gate_source(request, state.settings), state), state.store

    def know(
        self,
        letters: str,
        concept: str = "church",
        *,
        adversarial: str = "zq",
        seen: str = "church 0.99",
        seconds: float = 0.0,
        base: str | None = None,
        images: str = "",
        unattacked: bool = False,
    ) -> Path:
        """Write a concept with one prompt a letter, and what is known of each; a dot is a prompt with no outcome.

        Args:
            letters: how each prompt ended.
            concept: its name.
            adversarial: tokens that broke prompts.
            seen: what the judge saw.
            seconds: what each prompt took.
            base: what the judge saw in the base's images of them; the concept, where nothing is said.
            images: stands for the un-attacked images of the prompts, in which the same letter is the same image.
            unattacked: whether those of prompts with no outcome were drawn, as after an early pass.

        Returns:
            The journal.
        """
        self.concept(concept, len(letters))
        campaign, store = self.campaign(concept)
        self._know_base(campaign, store, base or "g" * len(letters))
        if unattacked:
            self._know_unattacked(campaign, store, letters)
        entry = store.campaign(concept, campaign.key)
        for prompt, letter, image in zip(campaign.concept.prompts, letters, images or letters, strict=True):
            if letter == ".":
                continue
            store.create(entry, campaign.key)
            broken = letter == "b"
            entry.journal.append(
                Outcome(
                    prompt.digest,
                    STATUS[letter],
                    adversarial=f"{adversarial} {prompt.text}" if broken else None,
                    inserted=adversarial if broken else None,
                    detail=seen,
                    seconds=seconds,
                    error="the judge choked" if letter == "e" else None,
                    image=image * 16 if images else None,
                )
            )
        return cast(Path, entry.journal.path)

    def _know_unattacked(self, campaign: Campaign, store: Any, letters: str) -> None:
        """Keep the un-attacked images of prompts with no outcome."""
        plain = campaign.without_attack()
        entry = store.campaign(plain.concept.name, plain.key)
        for prompt, letter in zip(campaign.concept.prompts, letters, strict=True):
            if letter == ".":
                store.create(entry, plain.key)
                entry.journal.append(Outcome(prompt.digest, Status.RESISTED))

    def _know_base(self, campaign: Campaign, store: Any, letters: str) -> None:
        base = base_campaign(campaign.concept, campaign.fingerprint.targets_digest, campaign.judge)
        entry = store.campaign(campaign.concept.name, base.key)
        for prompt, letter in zip(campaign.concept.prompts, letters, strict=True):
            if letter != ".":
                store.create(entry, base.key)
                entry.write_metadata({"victim": "the base"})
                entry.journal.append(Outcome(prompt.digest, STATUS[letter]))

    def know_kept(self, victim: str, base: str, concept: str = "dog") -> None:
        """Write a concept that must be kept, and what victim and base draw of it, with letters as ``know`` takes."""
        self.concept(concept, len(victim))
        asked, store = self.campaign(concept)
        self._know_base(asked, store, base)
        of_victim = Campaign(
            asked.concept, AttackConfig("none"), Fingerprint(asked.fingerprint.victim, ""), asked.judge
        )
        entry = store.campaign(concept, of_victim.key)
        for prompt, letter in zip(asked.concept.prompts, victim, strict=True):
            if letter != ".":
                store.create(entry, of_victim.key)
                entry.append(Outcome(prompt.digest, STATUS[letter], detail="cat 0.90"))

    def scripted(self, letters: str, *, seconds: float = 0.0, error: str = "", base: str = "") -> None:
        """From here on, attacks end as these letters say, one a prompt in the set's order, with no model.

        Args:
            letters: how each prompt of a set ends; ``!`` raises ``error``, an expression, instead.
            seconds: what each prompt takes.
            error: such as ``RuntimeError('half and float')``.
            base: how they end on the un-erased base under no attack; drawn, where nothing is said.
        """
        self.apart |= "KeyboardInterrupt" in error  # which would end the session of these tests
        script = {"letters": letters, "seconds": seconds, "base": base or "g" * len(letters)}
        self.file(
            "conftest.py",
            f"SCRIPT = {script!r}\n\n\ndef fail():\n    raise {error or 'AssertionError(SCRIPT)'}\n{_ENGINE}",
        )

    def gate(self, keywords: str, name: str = "test_gate", concept: str = "church") -> None:
        """Write a test module with one gate."""
        self.tests(
            f"""
            @pytest.mark.unlearndiff({concept!r}, {keywords})
            def {name}(unlearndiff_attack):
                unlearndiff_attack()
            """,
            name=name,
        )

    def retain(self, keywords: str, name: str = "test_kept") -> None:
        """Write a test module with one retention gate; these are all its marker's arguments."""
        self.tests(
            f"""
            @pytest.mark.unlearndiff_retains({keywords})
            def {name}(unlearndiff_retention):
                unlearndiff_retention()
            """,
            name=name,
        )

    def conftest(self, code: str) -> None:
        """Append to conftest.py."""
        path = self.path / "conftest.py"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        self.file("conftest.py", before + "\n\n" + textwrap.dedent(code) + "\n")

    def tests(self, code: str, name: str = "test_gate") -> None:
        """Write a test module."""
        self.file(f"{name}.py", "import pytest\n\n" + textwrap.dedent(code))

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest with the model under test; nothing is attacked."""
        return self.bare(*MODEL, REQUIRE, *arguments)

    def attack(self, *arguments: str) -> pytest.RunResult:
        """Run pytest with the model under test; what the store lacks is attacked."""
        return self.bare(*MODEL, *arguments)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin what ``attack`` does, in a process group of its own, to be disturbed."""
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *MODEL, *arguments],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell's background jobs ignore SIGINT, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def kept(self, store: str = ".unlearndiff", campaigns: str = "*", *, base: bool = False) -> list[dict[str, Any]]:
        """Every outcome in the store's journals, in the order they were written; a torn line is none.

        Args:
            store: its folder.
            campaigns: pattern of their folders' names.
            base: what the judge saw in the base's own images, instead of outcomes of victims.
        """
        folders = [path for path in self.path.glob(f"{store}/campaigns/{campaigns}") if _of_base(path) == base]
        lines = (line for folder in folders for line in _whole(folder / "journal.jsonl"))
        return [json.loads(line)["outcome"] for line in lines]

    def bare(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in this process, or in one of its own where it starts workers."""
        if self.apart or any(argument.startswith("-n") for argument in arguments):
            return self.separate(*arguments)
        return self.pytester.runpytest_inprocess(*arguments)

    def separate(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in a process of its own."""
        return self.pytester.runpytest_subprocess(*arguments)

    def ask(self, *arguments: str) -> pytest.RunResult:
        """Run a session that ends before any gate does, in this process, which is much quicker."""
        return self.pytester.runpytest_inprocess(*MODEL, REQUIRE, *arguments)

    def without_torch(self) -> None:
        """From here on, whoever attacks finds no torch; for which sessions need processes of their own."""
        self.apart = True
        self.file("conftest.py", "import sys\n\nsys.modules['torch'] = None\n")

    def command(self, *arguments: str) -> pytest.RunResult:
        """Run ``python -m pytest_unlearndiff`` in this process."""
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                status = main(list(arguments))
            except SystemExit as ended:  # of argparse
                status = int(ended.code or 0)
        # Every other line end stays for those who look for it.
        outlines, errlines = (
            file.getvalue().removesuffix("\n").split("\n") if file.getvalue() else [] for file in (out, err)
        )
        return pytest.RunResult(status, outlines, errlines, 0)

    def read(self, name: str) -> str:
        """The text of a file here."""
        return (self.path / name).read_text(encoding="utf-8")

    def gates(self, name: str = "report.json") -> list[dict[str, Any]]:
        """The gates of a JSON report."""
        gates: list[dict[str, Any]] = json.loads(self.read(name))["gates"]
        return gates

    def files(self) -> dict[str, bytes]:
        """Every file here, with its content."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not _NOT_OURS & set(path.relative_to(self.path).parts)
        }


def _of_base(campaign: Path) -> bool:
    """Whether a campaign's folder is of the un-erased base."""
    facts = campaign / "facts.json"
    return facts.exists() and str(json.loads(facts.read_text()).get("victim")).startswith("the base")


def _whole(path: Path) -> list[str]:
    return [line for line in path.read_text().split("\n")[:-1] if line] if path.exists() else []


NOTE = "; nothing gates what this model must keep"


def section(result: pytest.RunResult, *, notes: bool = False) -> list[str]:
    """The lines of the plugin's summary section; empty where there is none.

    Args:
        result: of the session.
        notes: whether what is said beside verdicts stays, which hardly any test is about: few gate retention.
    """
    inside, lines = False, []
    for line in result.outlines:
        if line.startswith("="):
            inside = line.strip("= ") == "unlearndiff"
        elif inside:
            lines.append(line if notes else line.removesuffix(NOTE))
    return lines


def text(result: pytest.RunResult) -> str:
    """The plugin's summary section as one text."""
    return "\n".join(section(result))


def row(result: pytest.RunResult, concept: str = "church") -> str:
    """The first row of a concept's gates in the summary section."""
    return next(line for line in section(result) if line.startswith(f"{concept} "))


def verdict(result: pytest.RunResult, concept: str = "church") -> str:
    """The verdict in that row."""
    return row(result, concept).split()[-1]
