"""What the benchmarks ran on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil


def cores() -> list[int]:
    """Returns the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpu_model() -> str:
    """Returns the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def describe(mesh_cores: list[int] | None = None) -> str:
    """Returns one line: processor, cores, memory, Python; with `mesh_cores`, those that the mesh is held to."""
    memory = psutil.virtual_memory().total / 2**30
    facts = [
        cpu_model(),
        f"{len(cores())} cores ({platform.machine()})",
        f"{memory:.0f} GiB",
        f"Python {platform.python_version()}",
        f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "",
    ]
    if mesh_cores is not None:
        facts.append(f"mesh on {len(mesh_cores)} of them")
    return ", ".join(fact for fact in facts if fact)
