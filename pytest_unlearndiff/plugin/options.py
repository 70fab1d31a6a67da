"""Every option once: command line and ini, in that order, into frozen settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from .option_values import (
    attack,
    batch_size,
    cases,
    device,
    loss,
    names,
    one_of,
    precision,
    prompts,
    reports,
    safe,
    schedule,
    seconds,
    seed,
    share,
    version,
    workers,
    yes,
)

# In pytest.toml and [tool.pytest], values have types of their own; pytest before 9.2 cannot accept several.
_INI_TYPE: Any = str | int | bool if pytest.version_tuple >= (9, 2) else "string"


# Named tuples: every pytest start makes these classes, and a frozen dataclass takes several times as long to make.
class Option(NamedTuple):
    """One setting, under two names: ``--unlearndiff-x-y`` and ini ``unlearndiff_x_y``.

    Attributes:
        name: with underscores.
        help: for ``--help``; its first letter is a capital.
        metavar: what the value is called; empty for a flag.
        read: makes the value from text; raises ValueError with the allowed form.
        default: where it is given nowhere.
        repeatable: whether the command line may give it several times, which means the same as commas.
    """

    name: str
    help: str
    metavar: str
    read: Callable[[str], Any] = str
    default: Any = None
    repeatable: bool = False

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--unlearndiff-" + self.name.replace("_", "-")

    def written(self, text: str) -> str:
        """As it stands on a command line; empty for a flag that is not set."""
        if self.metavar:
            return f"{self.flag}={text}"
        return self.flag if self.read(text) else ""

    @property
    def ini(self) -> str:
        """Its name in ini files, and of the attribute that holds it on the command line."""
        return f"unlearndiff_{self.name}"


OPTIONS = (
    Option("model", "Model under test: a pipeline folder, a component folder, a checkpoint file, or its URL", "PATH"),
    Option(
        "model_version",
        "Version of the model under test, part of the key: for a pipeline with hooks or other code of your own",
        "TEXT",
        version,
    ),
    Option("base", "Un-erased pipeline: for what a checkpoint lacks, and for target images", "PATH"),
    Option("concepts", "Further folders or files of concepts, separated as in PATH", "PATHS"),
    Option("concept", "Concepts that pytest_unlearndiff.suite gates, with commas", "NAMES", names),
    Option("max_asr", "Limit of the gates of pytest_unlearndiff.suite, such as 0.1", "SHARE", share),
    Option("prompt_sets", "Folder, URL or Hub data set of what authors publish, such as nudity.csv", "PLACE"),
    Option("prompts", "Attack only the first N prompts of every set; known: those that transfer has", "N", prompts),
    Option("case_numbers", "Attack only the prompts with these case numbers", "17,42", cases),
    Option(
        "attack",
        "Attack: unlearndiff, p4d, ring-a-bell, random, seed-search, none, or transfer:CSV to replay known prompts",
        "NAME",
        attack,
    ),
    Option(
        "schedule",
        "Schedule: fast (default); paper, the search of upstream's program, with which published numbers were made; "
        "paper+repeated-noise, with that program's accident of repeating noise too",
        "NAME",
        schedule,
    ),
    Option("loss", "Loss of the schedule fast: denoise (default), or classifier", "NAME", loss),
    Option("seed", "Run seed; every prompt's own generators follow from it", "N", seed, 0),
    Option(
        "batch_size",
        "Prompts attacked together, or auto by a GPU's memory; changes no outcome (default 8)",
        "N",
        batch_size,
        8,
    ),
    Option(
        "workers",
        "Processes that attack, with Ray: N or auto (one a GPU; auto/2: two) here, ray or ray://HOST:PORT on one",
        "WHERE",
        workers,
    ),
    Option("worker_timeout", "Give up a worker that reports nothing for this long (default 30m)", "TIME", seconds),
    Option(
        "device",
        "Where the models run: cpu, cuda, cuda:N, mps, or auto (default): CUDA, else MPS where it works, else the CPU",
        "DEVICE",
        device,
        "auto",
    ),
    Option(
        "dtype",
        "Arithmetic: float32, tf32, float16, bfloat16 or auto (default): tf32 on cuda, float32 elsewhere",
        "NAME",
        precision,
        "auto",
    ),
    Option("compile", "Have torch.compile make faster kernels; like a device, not part of the key", "", yes, False),
    Option("partial", "Accept a checkpoint that lacks tensors without a pattern: the base's stay", "", yes, False),
    Option(
        "trust_pickle",
        "Read the tensors of pickles that name other things too, which are left out and never executed",
        "",
        yes,
        False,
    ),
    Option("negative_prompt", "Negative prompt of the images of the model under test", "TEXT"),
    Option("sld", "Draw by safe latent diffusion: weak, medium, strong or max, then what to avoid", "medium:X", safe),
    Option(
        "sld_warmup",
        "Warm-up of safe latent diffusion: in steps (paper), or timesteps as Diffusion-MU-Attack",
        "UNIT",
        one_of("steps", "timesteps"),
        "steps",
    ),
    Option(
        "safety_checker",
        "Let images pass the model's own safety checker, as part of what is tested; else it is taken out",
        "",
        yes,
        False,
    ),
    Option(
        "cache",
        "Store of finished prompts: rw (default), ro, refresh, off, or require to attack nothing",
        "MODE",
        one_of("rw", "ro", "refresh", "off", "require"),
        "rw",
    ),
    Option(
        "cache_dir",
        "Folder of the store (default: .unlearndiff in rootdir), or fsspec URL of one shared beside it",
        "PATH",
    ),
    Option(
        "progress",
        "Live progress on stderr: auto, lines or off",
        "WHEN",
        one_of("auto", "lines", "off"),
        "auto",
    ),
    Option(
        "report",
        "Write html:PATH, json:PATH or md:PATH, or github for step summary and annotations; may be repeated",
        "KIND:PATH",
        reports,
        repeatable=True,
    ),
    Option(
        "images",
        "Thumbnails in the store and in reports: blurred (default) until clicked, or none",
        "HOW",
        one_of("blurred", "none"),
        "blurred",
    ),
    Option(
        "exhaustive",
        "Attack every prompt of a set, also those that can no longer change the verdict",
        "",
        yes,
        False,
    ),
    Option(
        "time_budget",
        "Stop attacking after this time, such as 90s, 55m or 1h30m, at the end of a round: what is finished is kept",
        "TIME",
        seconds,
    ),
    Option("plan", "Say what would be attacked, and how long it may take, instead of running tests", "", yes, False),
    Option(
        "require",
        "Fail the session where a gate was skipped or none ran. Exit status: 0, no gate failed; 1, one did not pass; "
        "2, interrupted, or a mistake in a gate; 4, in an option",
        "",
        yes,
        False,
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option on the command line and in ini files."""
    group = parser.getgroup("unlearndiff", "unlearned diffusion models under adversarial prompts")
    for option in OPTIONS:
        if option.metavar:
            action = "append" if option.repeatable else "store"
            group.addoption(
                option.flag, dest=option.ini, metavar=option.metavar, action=action, default=None, help=option.help
            )
        else:
            group.addoption(
                option.flag, dest=option.ini, action="store_const", const="yes", default=None, help=option.help
            )
        parser.addini(option.ini, option.help, type=_INI_TYPE, default=None)
