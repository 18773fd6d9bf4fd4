"""Kyutai's models at full size with random weights: nothing is downloaded. Prints tables in Markdown.

    .venv-kyutai/bin/python -m bench.kyutai            (on a GPU)
    .venv-kyutai/bin/python -m bench.kyutai --tiny     (anywhere: models without size, to see that it runs)

The roofline beside each step time is what reading the weights and the state of all rows once takes, at the bandwidth
that the device's maker tells; no step can be faster.
"""

from __future__ import annotations

import argparse
import importlib
import platform
from collections.abc import Callable, Sequence
from typing import Any

from bench.kyutai_models import STT, Shape, tiny
from mesh.kyutai import Runtime, prepare

BATCH_SIZES = (1, 8, 16, 32, 64, 128, 192, 256, 320, 400, 512, 640)
FRAME_SECONDS = 0.08


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny models and few steps, on any machine")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    parser.add_argument("--parts", default="stt,tts", help="what to measure, of stt and tts")
    parser.add_argument("--models", default="", help="only those whose name holds this, as 1B")
    parser.add_argument("--batch-sizes", default="", help="as 1,64,400")
    parser.add_argument("--steps", type=int, default=200, help="steps to time for each batch size")
    parser.add_argument("--no-eager", action="store_true", help="leave out the runs without CUDA graphs")
    parser.add_argument(
        "--profile", action="store_true", help="show instead what steps of the last batch size spend their time on"
    )
    options = parser.parse_args(argv)
    runtime = prepare(
        device="cpu" if options.tiny and options.device == "auto" else options.device, dtype=options.dtype
    )
    sizes = tuple(int(size) for size in options.batch_sizes.split(",") if size)
    options.sizes = sizes or ((1, 3) if options.tiny else BATCH_SIZES)
    options.steps = min(options.steps, 5) if options.tiny else options.steps
    print(f"Device: {device_name(runtime)}, {str(runtime.dtype).removeprefix('torch.')}\n")
    for part in options.parts.split(","):
        measure = PARTS.get(part)
        if measure is None:
            parser.error(f"no part {part!r}")
        measure(runtime, options)


def measure_stt(runtime: Runtime, options: argparse.Namespace) -> None:
    """Prints the tables of speech to text."""
    from bench.kyutai_stt import measure_model, profile

    for shape in chosen(STT, options):
        if options.profile:
            print(title(shape, runtime, runtime.is_cuda), profile(shape, runtime, options.sizes[-1]), sep="\n")
            continue
        # Without graphs fewer batch sizes tell enough.
        for cuda_graphs in graph_modes(runtime, options):
            sizes = options.sizes if cuda_graphs or not runtime.is_cuda else options.sizes[::3]
            rows, roofline, footprint = measure_model(
                shape, runtime, sizes, steps=options.steps, cuda_graphs=cuda_graphs
            )
            print(title(shape, runtime, cuda_graphs))
            print(
                f"{footprint.weights / 1e6:.0f} MB of weights, {footprint.per_slot / 1e6:.1f} MB a stream, "
                f"delay {shape.delay:g} s.\n"
            )
            header = ("batch", "step ms", "p99 ms", "roofline ms", "x real time", "in real time", "flush ms",
                      "admission ms", "memory GB")  # fmt: skip
            table(
                header,
                [
                    (
                        row.batch_size,
                        ms(row.step),
                        ms(row.slowest),
                        ms(roofline.step(row.batch_size)),
                        f"{FRAME_SECONDS / row.step:.1f}",
                        "yes" if row.slowest < FRAME_SECONDS else "no",
                        ms(row.flush),
                        ms(row.admission),
                        "" if row.memory is None else f"{row.memory / 1e9:.1f}",
                    )
                    for row in rows
                ],
            )


def measure_tts(runtime: Runtime, options: argparse.Namespace) -> None:
    """Prints the tables of text to speech."""
    importlib.import_module("bench.kyutai_tts").report(runtime, options)


PARTS: dict[str, Callable[[Runtime, argparse.Namespace], None]] = {"stt": measure_stt, "tts": measure_tts}


def chosen(shapes: Sequence[Shape], options: argparse.Namespace) -> list[Shape]:
    """Returns the models to measure."""
    found = [shape for shape in shapes if options.models in shape.name]
    return [tiny(shape) for shape in found] if options.tiny else found


def graph_modes(runtime: Runtime, options: argparse.Namespace) -> tuple[bool, ...]:
    """Returns with and without CUDA graphs, as far as it makes sense."""
    if not runtime.is_cuda:
        return (False,)
    return (True,) if options.no_eager else (True, False)


def title(shape: Shape, runtime: Runtime, cuda_graphs: bool) -> str:
    """Returns a heading."""
    how = ("with CUDA graphs" if cuda_graphs else "without CUDA graphs") if runtime.is_cuda else "on the CPU"
    return f"### {shape.name}, {how}\n"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table in Markdown."""
    print(f"| {' | '.join(header)} |")
    print("|" + "---:|" * len(header))
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    print(flush=True)


def ms(seconds: float | None) -> str:
    """Returns milliseconds, or nothing."""
    return "" if seconds is None else f"{seconds * 1000:.1f}"


def device_name(runtime: Runtime) -> str:
    """Returns the device's name, as it belongs beside every figure."""
    import torch

    if runtime.is_cuda:
        return f"{torch.cuda.get_device_name(runtime.device)}, torch {torch.__version__}"
    return f"CPU ({platform.machine()}), torch {torch.__version__}"


if __name__ == "__main__":
    main()
