"""The plugin's work on a GPU: ``python -m benchmark.gpu`` in ``tests``; with ``--tiny`` on a CPU too.

Measures, on random weights of Stable Diffusion 1.4's and XL's shape: a matrix product at its best, the denoising
network by batch and precision, rounds of the attack and images by batch size, and from these prompts an hour and the
share of the ideal; the literal program on the same device; whether numbers and outcomes depend on the batch; recovery
from exhausted memory; the judges' share. Goals that are missed are told at the end. What there is no time for is a row
"skipped". Nothing is fetched, and no rate is measured: the weights are random.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pytest_unlearndiff.attacks.base import Attack
from pytest_unlearndiff.attacks.schedules import UNLEARNDIFF, SimplexSchedule, TokenSwapSchedule
from pytest_unlearndiff.attacks.token_swaps import TokenSwapAttack
from pytest_unlearndiff.attacks.unlearndiff import SimplexAttack
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.device import WEIGHTS, network_batch
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.device import (
    MemoryMeter,
    channels_last,
    matmul_precision,
    restore_batches,
    weights_type,
)
from pytest_unlearndiff.models.libraries import silence_libraries

from .contenders import provenance
from .gpu_outcomes import batches_of, outcomes_by_batch, recovery_from_memory, repeatability
from .literal import BLOCKS, DECAY, RATE, STEPS, Literal, draw
from .measuring import GIB, TINY, Report, Scale, Subject, Value, flop, peak_memory, seconds, synchronize
from .random_weights import SHAPES, RandomTargets, build, prompts

IMAGE_STEPS = 50
"""Denoising steps of the paper's images, to which times of shorter ones are scaled."""
GOALS: Mapping[str, float] = {"network": 0.6, "fast": 0.45, "literal": 20.0}
"""Least share of the matrix product's speed that the network reaches in bfloat16, least share of the ideal of a whole
``fast`` prompt, and how many times as long the literal program has to take for one."""


def measure_matmul(report: Report, scale: Scale, precision: str, peaks: dict[str, float]) -> None:
    """Measure a dense matrix product, in TFLOP/s."""
    a, b = (torch.randn(scale.matrix, scale.matrix, device=report.device).to(weights_type(precision)) for _ in range(2))
    with matmul_precision(precision):
        peaks[precision] = 2 * scale.matrix**3 / seconds(lambda: a @ b, report.device, at_least=scale.at_least) / 1e12
    report.add("matrix product", f"{scale.matrix}x{scale.matrix} {precision}", tflops=peaks[precision])


def measure_weights(subject: Subject) -> None:
    """Measure the memory of weights, by component."""
    sizes: dict[str, Value] = {}
    for name, component in subject.pipe.components.items():
        if isinstance(component, torch.nn.Module):
            sizes[f"{name}_gib"] = sum(p.numel() * p.element_size() for p in component.parameters()) / GIB
    total = sum(float(size) for size in sizes.values())
    subject.report.add("memory", f"{subject.name} weights", **sizes, all_gib=total)


def network_call(subject: Subject, count: int, *, gradient: bool) -> Callable[[], Any]:
    """Return a call of the network alone on a batch, forward or with the gradient by the text states."""
    model, network = subject.model, subject.pipe.unet
    arguments = {name: _repeat(value, count) for name, value in model.network_arguments("a cab on a bed").items()}
    x = torch.randn(count, *model.latent_shape, device=model.device).to(network.dtype)
    t = torch.full((count,), 500, device=model.device)

    def forward() -> None:
        with torch.no_grad():
            network(x, t, **arguments)

    def backward() -> None:
        states = arguments["encoder_hidden_states"].detach().requires_grad_(True)
        # Times one, since the counter of operations can hand no leaf on.
        error = network(x, t, **{**arguments, "encoder_hidden_states": states * 1}).sample.float().square().sum()
        torch.autograd.grad(error, states)

    return backward if gradient else forward


def _repeat(value: Any, count: int) -> Any:
    if isinstance(value, dict):
        return {name: _repeat(each, count) for name, each in value.items()}
    return value.repeat_interleave(count, 0) if isinstance(value, torch.Tensor) else value


def measure_network(subject: Subject) -> None:
    """Measure the network alone, by batch."""
    for kind, gradient in (("forward", False), ("gradient", True)):
        one = flop(network_call(subject, 1, gradient=gradient))
        subject.each[f"{kind} tflop"] = one / 1e12

        def call(count: int, kind: str = kind, one: int = one, gradient: bool = gradient) -> None:
            with peak_memory(subject.report.device) as memory:
                took = subject.time(network_call(subject, count, gradient=gradient), warm_up=2)
            tflops = one * count / took / 1e12
            subject.each[f"{kind} tflops"] = max(subject.each.get(f"{kind} tflops", 0.0), tflops)
            values = {"ms": 1e3 * took, "ms_each": 1e3 * took / count, "tflops": tflops}
            title = f"{subject.name} {kind}, batch of {count}"
            subject.report.add("network", title, **values, **subject.share(tflops), **memory)

        for count in subject.scale.network:
            subject.report.attempt("network", 0, partial(call, count))


def measure_search(subject: Subject) -> None:
    """Measure a round of ``fast`` and a step of ``paper``, by prompts attacked together and by the network's batch."""
    scale, model = subject.scale, subject.model
    fast, paper = UNLEARNDIFF["fast"], UNLEARNDIFF["paper"]
    assert isinstance(fast, TokenSwapSchedule)
    assert isinstance(paper, SimplexSchedule)
    shorter = replace(paper, steps=scale.search_steps)
    rounds = partial(_measure_round, subject, "fast", TokenSwapAttack(AttackConfig(), model, fast), 1)
    steps = partial(
        _measure_round, subject, "paper", SimplexAttack(AttackConfig(schedule="paper"), model, shorter), shorter.steps
    )
    for measured in (rounds, steps):
        for size in scale.sizes:
            full = size == network_batch(str(subject.report.device))
            for together in scale.together if full else scale.together[-1:]:
                subject.report.attempt("search", 0, partial(measured, size, together))


def _measure_round(subject: Subject, schedule: str, attack: Attack[Any], steps: int, size: int, together: int) -> None:
    """Measure a round of an attack, in which a prompt does so many steps that count."""
    states, device = attack.start(prompts(together), RandomTargets(None), 0), subject.report.device
    meter = MemoryMeter(device)
    with peak_memory(device) as memory, batches_of(size):
        took = subject.time(partial(attack.advance, states), runs=4) / steps / together
    name = f"search {schedule}"
    subject.each[name] = min(took, subject.each.get(name, took))
    unit = "round of fast" if schedule == "fast" else "step of paper"
    room: dict[str, Value] = {"room_for_prompts": meter.fitting(together, together)} if memory else {}
    title = f"{subject.name} {unit}, {together} prompts, batches of {size}"
    subject.report.add("search", title, ms_each=1e3 * took, **memory, **room)


def measure_images(subject: Subject) -> None:
    """Measure images by the pipeline's own call."""
    for size in subject.scale.sizes:
        subject.report.attempt("images", 0, partial(_measure_image, subject, size))


def _measure_image(subject: Subject, size: int) -> None:
    steps, model = subject.scale.image_steps, subject.model
    requests = [GenerationRequest(p.text, p.seed, p.guidance) for p in prompts(size)]
    with peak_memory(model.device) as memory, batches_of(size):
        took = subject.time(partial(model.generate, requests), runs=3) / size
    scaled = took * IMAGE_STEPS / steps
    subject.each["image"] = min(scaled, subject.each.get("image", scaled))
    title = f"{subject.name} images of {steps} steps with guidance, batches of {size}"
    subject.report.add("images", title, s_each=took, s_each_of_50_steps=scaled, **memory)


def measure_literal(subject: Subject, quickest: tuple[str, float] | None) -> None:
    """Measure the literal program: one prompt, a call per prediction, float32, an LMS scheduler for each image.

    Args:
        subject: the model.
        quickest: precision and seconds a prompt of the quickest ``fast`` that was measured, beside which to put it.
    """
    pipe, device, steps = subject.pipe, subject.report.device, subject.scale.image_steps
    attack = Literal(pipe, pipe, lambda images: [], 3, steps)
    generator = torch.Generator(device).manual_seed(0)
    u = torch.full((3, len(attack.table)), 1 / len(attack.table), device=device)
    adam, prompt = torch.optim.Adam([u], lr=RATE, weight_decay=DECAY), prompts(1)[0]
    x0 = torch.randn(1, *subject.model.latent_shape, device=device)
    step = subject.time(lambda: attack.step(u, adam, prompt, x0, 500, generator), runs=5)
    image = subject.time(lambda: draw(pipe, prompt.text, 0, 7.5, steps), runs=2) * IMAGE_STEPS / steps
    total = BLOCKS * STEPS * step + (BLOCKS + 2) * image
    subject.report.add("literal", subject.name, step_ms=1e3 * step, s_an_image=image, s_a_prompt=total)
    if quickest is not None:
        precision, fast = quickest
        _goal(subject, "literal", f"literal program in float32, in times of fast in {precision}", total / fast)


def measure_hour(subject: Subject) -> None:
    """Work out prompts an hour that resist, at the best sizes measured, and their share of the ideal."""
    image = subject.each["image"]
    for name in ("fast", "paper"):
        schedule = UNLEARNDIFF[name]
        rounds = schedule.rounds * (schedule.steps if isinstance(schedule, SimplexSchedule) else 1)
        drawn = schedule.rounds + 2  # the un-attacked and the target image too
        searching, drawing = rounds * subject.each[f"search {name}"], drawn * image
        subject.each[name] = searching + drawing
        passes = schedule.forward_passes(0) + drawn * 2 * IMAGE_STEPS
        values: dict[str, Value] = {"prompts": 3600 / (searching + drawing), "searching_s": searching}
        values |= {"drawing_s": drawing, "pflop": passes * subject.each["forward tflop"] / 1e3}
        if subject.peak is not None:
            ideal = passes * subject.each["forward tflop"] / subject.peak
            values |= {"ideal_s": ideal, "of_ideal": ideal / (searching + drawing)}
            if name == "fast":
                _goal(
                    subject, "fast", f"share of the ideal of a fast prompt ({subject.name})", float(values["of_ideal"])
                )
        subject.report.add("an hour", f"{subject.name} {name}", **values)


def _goal(subject: Subject, goal: str, title: str, reached: float) -> None:
    met = "yes" if reached >= GOALS[goal] else "no"
    subject.report.add("goal", title, goal=GOALS[goal], reached=reached, met=met)


def measure_host(subject: Subject) -> None:
    """Measure the share of a round in which the GPU computes; the rest it waits for the host."""
    model, device = subject.model, subject.report.device
    attack = TokenSwapAttack(AttackConfig(), model)
    states = attack.start(prompts(8), RandomTargets(None), 0)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with matmul_precision(subject.precision):
        attack.advance(states)
        synchronize(device)
        with torch.profiler.profile(activities=activities) as profile:
            started = time.perf_counter()
            attack.advance(states)
            synchronize(device)
            took = time.perf_counter() - started
    events = profile.key_averages()
    busy = sum(event.self_device_time_total for event in events) / 1e6
    values: dict[str, Value] = {"wall_ms": 1e3 * took, "kernels_ms": 1e3 * busy, "busy": busy / took}
    values["copies"] = sum(event.count for event in events if "Memcpy" in event.key)
    for event in sorted(events, key=lambda event: -event.self_device_time_total)[:5]:
        values[event.key[:40]] = f"{event.self_device_time_total / 1e3:.1f} ms"
    subject.report.add("host", f"{subject.name} round of fast, 8 prompts", **values)


def measure_layout(subject: Subject) -> None:
    """Measure the network with the channels of its convolutions last, which single precision does not have so far."""
    batch = network_batch(str(subject.report.device))
    for gradient in (False, True):
        call = network_call(subject, batch, gradient=gradient)
        before = subject.time(call)
        channels_last(subject.pipe)
        after = subject.time(call)
        for component in (subject.pipe.unet, subject.pipe.vae):
            component.to(memory_format=torch.contiguous_format)
        title = f"{subject.name} {'gradient' if gradient else 'forward'}, batch of {batch}, channels last"
        subject.report.add("layout", title, ms=1e3 * after, before_ms=1e3 * before, times=before / after)


def measure_compiled(subject: Subject) -> None:
    """Measure the network under torch.compile at the shapes the attack has; the first call is told apart."""
    batch = network_batch(str(subject.report.device))
    for count, gradient in ((batch, False), (batch, True), (2 * batch, False)):
        before = subject.time(network_call(subject, count, gradient=gradient))
        pipe = type(subject.pipe)(**subject.pipe.components)
        pipe.unet = torch.compile(subject.pipe.unet)
        call, started = network_call(replace(subject, pipe=pipe), count, gradient=gradient), time.monotonic()
        call()
        first, after = time.monotonic() - started, subject.time(call)
        title = f"{subject.name} {'gradient' if gradient else 'forward'}, batch of {count}, compiled"
        subject.report.add(
            "compile", title, ms=1e3 * after, before_ms=1e3 * before, times=before / after, first_s=first
        )
        torch.compiler.reset()


def measure_judges(subject: Subject) -> None:
    """Measure judges beside the image that they look at."""
    from pytest_unlearndiff.judges.nudenet import NudeNet

    device, image = subject.report.device, subject.each.get("image", float("nan"))
    images = [Image.effect_noise(subject.model.image_size, 64).convert("RGB") for _ in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        judges: dict[str, Any] = {"ResNet-50": _resnet_judge(Path(folder), str(device), tiny=subject.scale.tiny)}
        try:
            judges["NudeNet"] = NudeNet()
        except Exception as error:  # an extra that need not be installed
            subject.report.add("judges", "NudeNet", reason=str(error)[:100])
        for name, judge in judges.items():
            took = subject.time(partial(judge, images)) / len(images)
            subject.report.add("judges", f"{name}, one image", ms=1e3 * took, of_image=took / image)


def _resnet_judge(folder: Path, device: str, *, tiny: bool) -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    from pytest_unlearndiff.judges.image_classifier import ImageClassifier

    small: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]} if tiny else {}
    ResNetForImageClassification(ResNetConfig(num_labels=1000, **small)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folder)
    return ImageClassifier(str(folder), 0, device=device)


SECTIONS: Mapping[str, tuple[Callable[[Subject], None], float, Callable[[Subject], bool]]] = {
    "memory": (measure_weights, 1, lambda subject: True),
    "network": (measure_network, 15, lambda subject: True),
    "search": (measure_search, 60, lambda subject: subject.precision != "float32" or _on_cpu(subject)),
    "images": (measure_images, 30, lambda subject: "search fast" in subject.each),
    "an hour": (measure_hour, 1, lambda subject: {"image", "forward tflop"} <= subject.each.keys()),
    "host": (measure_host, 15, lambda subject: "image" in subject.each and not _on_cpu(subject)),
    "repeatability": (repeatability, 20, lambda subject: "image" in subject.each and subject.shape == "sd14"),
    "outcomes": (outcomes_by_batch, 30, lambda subject: "image" in subject.each and subject.shape == "sd14"),
    "memory ends": (recovery_from_memory, 30, lambda subject: _first(subject)),
    "judges": (measure_judges, 10, lambda subject: _first(subject)),
    "layout": (measure_layout, 15, lambda subject: WEIGHTS[subject.precision] == "float32"),
}
"""By name: what is measured, seconds that it needs at full size, and whether it is measured of a subject."""


def _on_cpu(subject: Subject) -> bool:
    return subject.report.device.type == "cpu"


def _first(subject: Subject) -> bool:
    """Tell whether it is the first subject measured, which stands for all where they do not differ."""
    return subject.shape == "sd14" and sum(row.section == "memory" for row in subject.report.rows) == 1


def measure(report: Report, scale: Scale, shapes: list[str], precisions: list[str], *, compiled: bool) -> None:
    """Measure all sections of all subjects; the literal program after Stable Diffusion 1.4, compilation last."""
    restore_batches(report.device)
    peaks: dict[str, float] = {}
    for precision in precisions:
        report.attempt("matrix product", 3, partial(measure_matmul, report, scale, precision, peaks))
    best: dict[str, dict[str, float]] = {}
    for shape in shapes:
        for precision in precisions:
            needed = 0 if scale.tiny else 20

            def sections(shape: str = shape, precision: str = precision) -> None:
                pipe = build(shape, precision, str(report.device), tiny=scale.tiny)
                subject = Subject(shape, precision, pipe, report, scale, peaks.get(precision))
                for name, (work, at_full_size, wanted) in SECTIONS.items():
                    if wanted(subject):
                        report.attempt(name, 0 if scale.tiny else at_full_size, partial(work, subject))
                if subject.peak is not None and (precision == "bfloat16" or _on_cpu(subject)):
                    for kind in ("forward", "gradient"):
                        if reached := subject.each.get(f"{kind} tflops"):
                            title = f"{kind} in the matrix product's speed ({subject.name})"
                            _goal(subject, "network", title, reached / subject.peak)
                if shape == "sd14":
                    best[precision] = subject.each
                if compiled and shape == shapes[-1] and precision == precisions[-1]:
                    report.attempt("compile", 0 if scale.tiny else 100, partial(measure_compiled, subject))

            report.attempt("model", needed, sections)
        if shape == "sd14" and best:
            report.attempt("literal", 0 if scale.tiny else 30, partial(_literal, report, scale, best))


def _literal(report: Report, scale: Scale, best: Mapping[str, dict[str, float]]) -> None:
    """Measure the literal program in single precision, beside the quickest ``fast`` that was measured."""
    fast = [(each["fast"], precision) for precision, each in best.items() if "fast" in each]
    seconds, precision = min(fast, default=(0.0, ""))
    pipe = build("sd14", "float32", str(report.device), tiny=scale.tiny)
    subject = Subject("sd14", "float32", pipe, report, scale, None)
    measure_literal(subject, (precision, seconds) if fast else None)


def describe(device: torch.device) -> dict[str, Value]:
    """Describe the device and the versions."""
    about: dict[str, Value] = {**provenance(), "python": platform.python_version()}
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
        about["gpu_memory_gib"] = torch.cuda.get_device_properties(device).total_memory / GIB
        about["cuda"] = str(torch.version.cuda)
        about["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return about


def main(arguments: list[str] | None = None) -> Report:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny models, which a CPU measures in a minute")
    parser.add_argument("--minutes", type=float, default=9.0, help="no section begins that may end later")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    default = ["tf32", "bfloat16", "float32"] if cuda else ["float32"]
    parser.add_argument(
        "--precisions", nargs="+", default=default, choices=[name for name in WEIGHTS if name != "auto"]
    )
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes")
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    if device.type == "cpu" and not args.tiny:
        parser.error("a CPU takes hours at full size: give --tiny")
    report = Report(device, args.json, time.monotonic() + 60 * args.minutes)
    report.add("machine", str(device), **describe(device))
    try:
        with silence_libraries():
            measure(report, TINY if args.tiny else Scale(), args.shapes, args.precisions, compiled=args.compile)
    finally:
        print(report.table())
    return report


if __name__ == "__main__":
    main()
