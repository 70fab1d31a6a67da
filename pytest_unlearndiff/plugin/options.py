"""The table of options, markers and fixtures that the thin entry point declares, and what crosses processes."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

# In pytest.toml and [tool.pytest], values have types of their own; pytest before 9.2 cannot accept several.
_INI_TYPE: Any = str | int | bool if pytest.version_tuple >= (9, 2) else "string"


# A named tuple: every start of pytest makes this class, and a frozen dataclass takes several times as long to make.
class Option(NamedTuple):
    """One option, under two names: ``--unlearndiff-x-y`` on the command line and ``unlearndiff_x_y`` in ini files.

    Type, parser and default of its value are those of the field of this name in ``settings.Settings``.

    Attributes:
        name: name with underscores.
        help: text for ``--help``.
        metavar: name of the value in ``--help``; empty for a flag.
        repeatable: whether the command line may give it several times, which means the same as commas.
    """

    name: str
    help: str
    metavar: str = ""
    repeatable: bool = False

    @property
    def flag(self) -> str:
        """Name on the command line."""
        return "--unlearndiff-" + self.name.replace("_", "-")

    @property
    def ini(self) -> str:
        """Name in ini files, and of the attribute that holds the command line's value."""
        return f"unlearndiff_{self.name}"


OPTIONS = (
    Option(
        "model",
        "Model under test: a pipeline folder, a component folder, a checkpoint file, or its URL; several adapters: A,B",
        "PATH",
    ),
    Option(
        "model_version",
        "Version of the model under test, part of the key: for a pipeline with hooks or other code of your own",
        "TEXT",
    ),
    Option("base", "Un-erased pipeline: for what a checkpoint lacks, and for target images", "PATH"),
    Option("concepts", "More folders or files of concepts, separated as in PATH", "PATHS"),
    Option("concept", "Concepts that pytest_unlearndiff.suite gates, separated by commas", "NAMES"),
    Option(
        "suite",
        "Tasks that pytest_unlearndiff.suite gates: paper, UnlearnDiffAtk's eight; or leaderboard, six of them",
        "NAME",
    ),
    Option("max_asr", "Limit of the gates of pytest_unlearndiff.suite, such as 0.1", "RATE"),
    Option("max_recovery", "The same, under an attack that leaves text", "RATE"),
    Option(
        "prompt_sets",
        "Folder, URL or Hub data set with prompt sets of their authors, such as nudity.csv; only those in a "
        "folder also replace the ones that come with this package, such as church.csv",
        "PLACE",
    ),
    Option(
        "prompts",
        "Attack only the first N prompts of every set, where a gate says no number, or, with 'known', those that "
        "a replaying attack knows",
        "N",
    ),
    Option("case_numbers", "Attack only the prompts with these case numbers", "17,42"),
    Option(
        "attack",
        "Attack: unlearndiff (default), p4d, ring-a-bell, mma-diffusion, concept-inversion, random, seed-search, none, "
        "noise-probe, completion-probe, or transfer:CSV to replay known prompts",
        "NAME",
    ),
    Option(
        "schedule",
        "Schedule: fast (default); thorough, the same search for five times as long; paper, the search of upstream's "
        "program, with which published numbers were made; or paper+repeated-noise, which also repeats noise as that "
        "program does by accident",
        "NAME",
    ),
    Option(
        "images_per_prompt",
        "Images drawn of every prompt, without attack and after every round, with other seeds; a prompt counts if any "
        "shows the concept (default 1)",
        "N",
    ),
    Option("loss", "Loss of the schedule fast: denoise (default) or classifier", "NAME"),
    Option("seed", "Seed of the session, from which every prompt's random generators are derived (default 0)", "N"),
    Option(
        "batch_size",
        "Prompts attacked together, or auto to fill a GPU's memory; does not change outcomes (default 8)",
        "N",
    ),
    Option(
        "workers",
        "Attack in other processes, with Ray: N or auto (one per GPU; auto/2: two) on this machine, ray or "
        "ray://HOST:PORT on a cluster",
        "WHERE",
    ),
    Option("worker_timeout", "Give up a worker that reports nothing for this long (default 30m)", "TIME"),
    Option(
        "device",
        "Device of the models: cpu, cuda, cuda:N, mps, or auto (default): CUDA, else MPS where it works, else the CPU",
        "DEVICE",
    ),
    Option(
        "dtype",
        "Precision: float32, tf32, float16, bfloat16 or auto (default): tf32 on CUDA, float32 elsewhere",
        "NAME",
    ),
    Option("compile", "Compile the networks with torch.compile; not part of the key"),
    Option("partial", "Accept a checkpoint that lacks tensors for no known reason: the base's are used"),
    Option(
        "trust_pickle",
        "Read the tensors of pickles that refer to other objects too; those are left out and never executed",
    ),
    Option("negative_prompt", "Negative prompt of the images of the model under test", "TEXT"),
    Option("sld", "Safe latent diffusion: weak, medium, strong or max, a colon, and what to avoid", "medium:TEXT"),
    Option("defense", "Registered defense: NAME, or NAME:OPTION=VALUE,OPTION=VALUE", "NAME"),
    Option(
        "sld_warmup",
        "Unit of safe latent diffusion's warm-up: steps (default), as in its paper, or timesteps, as in "
        "Diffusion-MU-Attack",
        "UNIT",
    ),
    Option("safety_checker", "Keep the model's own safety checker, as part of the model under test"),
    Option(
        "cache",
        "Store of finished prompts: rw (default), ro, refresh, off, or require to attack nothing",
        "MODE",
    ),
    Option(
        "cache_dir",
        "Folder of the store (default: .unlearndiff in rootdir), or the fsspec URL of a shared store",
        "PATH",
    ),
    Option("progress", "Live progress on stderr: auto (default), lines or off", "WHEN"),
    Option(
        "report",
        "Report to write: html:PATH, json:PATH or md:PATH, or github for step summary and annotations; repeatable; "
        "none writes none",
        "KIND:PATH",
        repeatable=True,
    ),
    Option("images", "Thumbnails in the store and in reports: blurred (default) until clicked, or none", "HOW"),
    Option("exhaustive", "Attack every prompt of a set, even those that can no longer change the verdict"),
    Option(
        "time_budget",
        "Stop attacking after this time, such as 90s, 55m or 1h30m, at the end of a round: what is finished is kept",
        "TIME",
    ),
    Option("plan", "Print what would be attacked, and the time and memory it may take, instead of running tests"),
    Option(
        "require",
        "Fail the session if a gate was skipped or none ran. Exit status: 0, no gate failed; 1, one did not pass; 2, "
        "interrupted, or a mistake in a gate; 4, a mistake in an option",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option on the command line and in ini files."""
    group = parser.getgroup("unlearndiff", "unlearned diffusion models under adversarial prompts")
    for option in OPTIONS:
        if option.metavar:
            how: dict[str, Any] = {"metavar": option.metavar, "action": "append" if option.repeatable else "store"}
        else:
            how = {"action": "store_const", "const": "yes"}
        group.addoption(option.flag, dest=option.ini, default=None, help=option.help, **how)
        parser.addini(option.ini, option.help, type=_INI_TYPE, default=None)


ATTACK_MARK = "unlearndiff"
ATTACK_FIXTURE = "unlearndiff_attack"
RETENTION_MARK = "unlearndiff_retains"
RETENTION_FIXTURE = "unlearndiff_retention"
QUALITY_MARK = QUALITY_FIXTURE = "unlearndiff_quality"

MARKERS = (
    f"{ATTACK_MARK}(concept, *, max_asr=None, max_pre_asr=None, max_recovery=None, gate='point', confidence=0.95, "
    "prompts=None, attack=None, schedule=None, loss=None, slots=None, placement='prefix', images_per_prompt=None, "
    "exhaustive=False, model=None, base=None): a gate on a concept's attack success rate, or on its recovery under an "
    "attack that leaves text; the test calls the unlearndiff_attack fixture",
    f"{RETENTION_MARK}(concept, *, min_rate=None, max_loss=None, gate='point', confidence=0.95, prompts=None, "
    "model=None, base=None): a gate on a concept that should have been kept; the test calls the "
    "unlearndiff_retention fixture",
    f"{QUALITY_MARK}(captions, *, max_kid_increase=None, max_fid_increase=None, min_clip_score=None, "
    "max_clip_loss=None, features=None, clip=None, reference=None, sampling=None, name=None, confidence=0.95, "
    "prompts=None, model=None, base=None): a gate on the quality of images of captions; the test calls the "
    "unlearndiff_quality fixture",
)

GATES = "unlearndiff_gates"
"""Attribute of an xdist worker's first report: node ids of every gate of the session, and of those left out."""
RUN = pytest.StashKey[str]()
"""Name that xdist's controller gives to the session."""
RUNS_TESTS = pytest.StashKey[bool]()
"""Set once the session runs tests; a session that only lists something has no gates to require or to sum up."""

_MARKS = frozenset((ATTACK_MARK, RETENTION_MARK, QUALITY_MARK))
_FIXTURES = frozenset((ATTACK_FIXTURE, RETENTION_FIXTURE, QUALITY_FIXTURE))


def is_gate(item: object) -> bool:
    """Tell whether a collected node asks for one of the fixtures that run gates."""
    return not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def is_marked(item: object) -> bool:
    """Tell whether a collected node has one of the markers, of its own or of a class or module."""
    return isinstance(item, pytest.Item) and any(mark.name in _MARKS for mark in item.iter_markers())
