"""Fill the guide's reference pages in from the code, when MkDocs builds them."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest_unlearndiff
from pytest_unlearndiff.__main__ import COMMANDS
from pytest_unlearndiff.core.concept_file import BUILT_IN
from pytest_unlearndiff.core.info import AttackInfo, Effort, Info, JudgeInfo, Schedule
from pytest_unlearndiff.core.model_info import DefenseInfo, FamilyDefaults
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.core.yaml_file import read_yaml
from pytest_unlearndiff.plugin.markers import ATTACK, RETENTION
from pytest_unlearndiff.plugin.options import MARKERS, OPTIONS
from pytest_unlearndiff.plugin.quality_marker import QUALITY
from pytest_unlearndiff.plugin.suites import SUITES

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"^<!-- generated: (\w+)(?: (\S+))? -->$", flags=re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``<!-- generated: NAME [ARGUMENT] -->`` by what the code says; MkDocs calls this for every page."""
    return fill_in(markdown)


def fill_in(markdown: str) -> str:
    """Replace the marks of a page."""
    return MARK.sub(lambda match: "\n".join(SECTIONS[match[1]](*filter(None, [match[2]]))), markdown)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    lines = [list(columns), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    yield from (f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
    yield ""


def _options() -> Iterator[str]:
    values = ((option.metavar and f"={option.metavar}", option) for option in OPTIONS)
    yield from _table(
        ("option", "in ini files", "meaning"),
        ((f"`{option.flag}{value}`", f"`{option.ini}`", _escape(option.help)) for value, option in values),
    )


def _escape(text: str) -> str:
    return re.sub(r"([*_<>])", r"\\\1", text)


def _markers() -> Iterator[str]:
    for marker in MARKERS:
        signature, meaning = marker.split("): ", 1)
        yield from ("```text", f"{signature})", "```", "", f"{meaning[0].upper()}{meaning[1:]}.", "")


def _arguments() -> Iterator[str]:
    meanings = {**ATTACK.keywords, **RETENTION.keywords}
    yield from _table(
        ("argument", "of `unlearndiff`", "of `unlearndiff_retains`", "meaning"),
        (
            (
                f"`{name}`",
                "yes" if name in ATTACK.keywords else "",
                "yes" if name in RETENTION.keywords else "",
                meaning,
            )
            for name, meaning in meanings.items()
        ),
    )
    yield from _table(
        ("argument of `unlearndiff_quality`", "meaning"),
        ((f"`{name}`", meaning) for name, meaning in QUALITY.keywords.items()),
    )


def _directive(name: str, **options: Any) -> Iterator[str]:
    yield f"::: {name}"
    if options:
        yield "    options:"
        yield from (f"      {option}: {str(value).lower()}" for option, value in options.items())
    yield ""


def _fixtures() -> Iterator[str]:
    for name in (ATTACK.fixture, RETENTION.fixture, QUALITY.fixture, "unlearned_pipe"):
        yield from _directive(f"pytest_unlearndiff.plugin.hooks.{name}", show_signature=False)


def _implementation(info: Info) -> Iterator[str]:
    """Point at the docstring of what a row names."""
    yield from _directive(
        info.implementation.replace(":", "."),
        show_root_heading=False,
        show_root_toc_entry=False,
        show_signature=False,
        members=False,
    )


def _module_docstring(info: Info) -> str:
    """Read the docstring of the module that a row names, which is not imported: it may need torch."""
    name, _, _ = info.implementation.partition(":")
    path = ROOT / f"{name.replace('.', '/')}.py"
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _rows(infos: Iterable[Info], facts: Callable[[Any], Iterable[str]]) -> Iterator[str]:
    for info in infos:
        yield from (f"### {info.name}", "", _module_docstring(info), "", *(f"- {fact}" for fact in facts(info)), "")
        yield from _implementation(info)


IMAGE = 100
"""Network forwards of an image of 50 steps with guidance."""


def _attack_costs() -> Iterator[str]:
    """Say of every attack and schedule what it needs, and what a prompt costs that resists to the end."""
    yield from _table(
        ("attack", "schedule", "needs", "images", "network forwards"),
        (
            (f"`{info.name}`", f"`{name}`" if name else "", _needs(info), *_work(info, schedule))
            for info in registry().attacks.values()
            for name, schedule in (info.schedules or {"": None}).items()
        ),
    )


def _suite(name: str) -> Iterator[str]:
    """Say of a suite's tasks what they attack, and for how long if all prompts resist and a forward takes 10 ms."""
    schedule = registry().attacks["unlearndiff"].schedules[SUITES[name].keywords["schedule"]]
    hours = (schedule.forward_passes(IMAGE) + IMAGE) * 0.01 / 3600
    tasks = {task: _task(task) for task in SUITES[name].concepts}
    prompts = {task: fields["prompts"]["rows"] for task, fields in tasks.items()}
    yield from _table(
        ("task", "prompts", "adversarial tokens", "judge", "hours at most"),
        (
            (f"`{task}`", str(rows), str(tasks[task]["slots"]), tasks[task]["judge"]["kind"], f"{rows * hours:.1f}")
            for task, rows in prompts.items()
        ),
    )
    yield from (f"All of them: {sum(prompts.values()) * hours:.0f} hours.", "")


def _task(task: str) -> dict[str, Any]:
    """Return the fields of a task's concept file, without the files it names, which do not come with this project."""
    concept, _, set_name = task.partition(":")
    fields = dict(read_yaml(BUILT_IN / f"{concept}.yaml").data)
    return fields | fields["sets"][set_name] if set_name else fields


def _needs(info: AttackInfo) -> str:
    wanted = {
        "the un-erased model": info.needs_base,
        "target images": info.needs_targets,
        "the concept's word": info.uses_word,
        "known prompts": info.replays_known,
    }
    return ", ".join(thing for thing, needed in wanted.items() if needed)


def _work(info: AttackInfo, schedule: Schedule | None) -> tuple[str, str]:
    """Count images and forward passes beyond the un-attacked image."""
    if schedule is None:
        return ("none", "0") if info.unattacked else ("one per known prompt", f"{IMAGE} each")
    spent = schedule.forward_passes(IMAGE)
    matched = info.effort is Effort.MATCHED
    return str(spent // IMAGE if matched else schedule.rounds), f"{spent // IMAGE * IMAGE if matched else spent:,}"


def _attacks() -> Iterator[str]:
    def facts(info: AttackInfo) -> Iterator[str]:
        yield f"version {info.version}"
        if info.schedules:
            yield f"schedules: {', '.join(f'`{name}` ({s.rounds} rounds)' for name, s in info.schedules.items())}"
        if info.losses:
            yield f"losses: {', '.join(f'`{loss}`' for loss in info.losses)}, the first by default"
        if info.needs_base:
            yield "needs the un-erased model"
        elif info.needs_targets:
            yield "needs target images, which the base draws or the concept names"
        if info.compares_texts:
            ragged = (family.title for family in registry().families.values() if family.ragged_texts)
            yield f"refused on {', '.join(ragged)}, whose texts differ in length"

    yield from _rows(registry().attacks.values(), facts)


def _families() -> Iterator[str]:
    yield from _table(
        ("family", "pipeline class", "networks", "drawn by default with", "defences refused"),
        (
            (
                info.title,
                f"`{info.pipeline.partition(':')[2]}`",
                ", ".join(f"`{name}`{' (optional)' * (name in info.optional)}" for name in info.components),
                "; ".join(map(_defaults, info.defaults)),
                ", ".join(f"`{name}`" for name in info.refused_defenses),
            )
            for info in registry().families.values()
        ),
    )


def _defaults(defaults: FamilyDefaults) -> str:
    sampling = defaults.sampling
    guidance = "" if defaults.guidance is None else f", guidance {defaults.guidance:g}"
    where = ", ".join(f"`{name}: {str(value).lower()}`" for name, value in defaults.config.items())
    return f"{sampling.steps} steps, scheduler `{sampling.scheduler}`{guidance}{f' ({where})' if where else ''}"


def _formats() -> Iterator[str]:
    for info in registry().formats.values():
        yield from (f"### {info.name}", "", _module_docstring(info), "")


def _defenses() -> Iterator[str]:
    def facts(info: DefenseInfo) -> Iterator[str]:
        yield f"`--unlearndiff-defense={info.name}:{','.join(f'{option}=...' for option in info.options)}`"
        yield (
            "attacks search through it"
            if info.attacked_through
            else "attacks search on the weights alone, and images show it"
        )
        if info.families:
            yield f"for {', '.join(registry().families[name].title for name in info.families)} only"
        yield from (f"`{option}`: by default {value}" for option, value in info.defaults.items())
        for option, choices in info.choices.items():
            yield f"`{option}`: {', '.join(f'`{choice}`' for choice in choices)}"

    yield from _rows(registry().defenses.values(), facts)


def _concept() -> Iterator[str]:
    yield from _directive(
        "pytest_unlearndiff.core.concept_file.read_concept",
        show_root_heading=False,
        show_root_toc_entry=False,
        show_signature=False,
    )


def _concepts() -> Iterator[str]:
    yield ", ".join(f"`{path.stem}`" for path in sorted(BUILT_IN.glob("*.yaml"))) + "."


def _judges() -> Iterator[str]:
    for info in registry().judges.values():
        yield from (f"### {info.name}", "")
        yield from _table(
            ("option", "", "value"),
            (
                (f"`{option}`", "required" if option in info.required else "optional", _value(info, option))
                for option in info.options
            ),
        )
        yield from _implementation(info)


def _value(info: JudgeInfo, option: str) -> str:
    """Say what a judge's option has to be, as its check says it."""
    check = {**info.required, **info.optional}[option]
    if isinstance(check, type):
        return check.__name__
    return (check.__doc__ or "").split("\n")[0].removeprefix("Check for ").rstrip(".")


def _commands() -> Iterator[str]:
    for command in COMMANDS:
        parser = argparse.ArgumentParser(f"python -m pytest_unlearndiff {command.name}", description=command.summary)
        command.add_arguments(parser)
        yield from (f"## {command.name}", "", "```text", parser.format_help().strip(), "```", "")


def _api() -> Iterator[str]:
    for name in pytest_unlearndiff.__all__:
        if name in pytest_unlearndiff._HOMES:
            yield from _directive(f"pytest_unlearndiff.{pytest_unlearndiff._HOMES[name]}.{name}")


def _reports() -> Iterator[str]:
    def facts(info: Any) -> Iterator[str]:
        yield f"`--unlearndiff-report={info.name}{':PATH' if info.takes_path else ''}`"

    yield from _rows(registry().reports.values(), facts)


def _file(path: str) -> Iterator[str]:
    yield from (f"`{path}`:", "", "```python", (ROOT / path).read_text(encoding="utf-8").strip(), "```")


SECTIONS: dict[str, Callable[..., Iterator[str]]] = {
    "options": _options,
    "markers": _markers,
    "arguments": _arguments,
    "fixtures": _fixtures,
    "attack_costs": _attack_costs,
    "attacks": _attacks,
    "suite": _suite,
    "families": _families,
    "formats": _formats,
    "defenses": _defenses,
    "concept": _concept,
    "concepts": _concepts,
    "judges": _judges,
    "commands": _commands,
    "api": _api,
    "reports": _reports,
    "file": _file,
}
