"""`unmute models`: the weights that the services may need, and the models that running services serve."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from mesh.cli import Command
from mesh.settings import Addresses
from mesh.weights import State, Weight, WeightStore, load_weights

if TYPE_CHECKING:
    from rich.console import Console

_DEADLINE = 2.0
"""Seconds that a service is given to say what it serves."""


class ModelsSettings(Addresses):
    """What to do with the weights."""

    fetch: bool = Field(False, description="Fetch the weights that are missing, except the optional ones.")
    all: bool = Field(False, description="With --fetch: the optional ones too.")
    check: bool = Field(False, description="Read every file and compare its hash; exit code 1 if one is not right.")
    json_output: bool = Field(False, alias="json", description="Print JSON.")


@dataclass(frozen=True, slots=True)
class Row:
    """One weight and what the store has of it."""

    service: str
    weight: Weight
    state: State


@dataclass(frozen=True, slots=True)
class Served:
    """What a running service says it serves."""

    service: str
    address: str
    models: tuple[str, ...]


def run(settings: ModelsSettings) -> int:
    """Lists, fetches or checks; returns the exit code."""
    from rich.console import Console

    store, declared = WeightStore(), load_weights()
    if settings.fetch:
        wanted = [weight for weights in declared.values() for weight in weights if settings.all or not weight.optional]
        _fetch(store, wanted, Console(stderr=True))
    look = store.check if settings.check else store.state
    rows = [Row(service, weight, look(weight)) for service, weights in declared.items() for weight in weights]
    served = _ask_services(settings)
    if settings.json_output:
        sys.stdout.write(json.dumps(_as_json(store, rows, served), indent=2) + "\n")
    else:
        _print(store, rows, served, Console(), checked=settings.check)
    return 1 if settings.check and any(_is_wrong(row) for row in rows) else 0


def _is_wrong(row: Row) -> bool:
    return row.state is State.DAMAGED or (row.state is State.MISSING and not row.weight.optional)


def _fetch(store: WeightStore, weights: Iterable[Weight], console: Console) -> None:
    """Fetches with one bar for each package; the bars go to standard error."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    groups: dict[tuple[str, str], list[Weight]] = {}
    for weight in weights:
        source = weight.parsed_source
        groups.setdefault((source.kind, source.container), []).append(weight)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bars:
        for (_, container), group in groups.items():
            task = bars.add_task(container or group[0].name, total=None)
            store.fetch_all(group, lambda done, total, task=task: bars.update(task, completed=done, total=total))  # type: ignore[misc]
            size = sum(weight.size for weight in group)
            if not bars.tasks[task].completed:
                bars.update(task, completed=size, total=size)


def _print(store: WeightStore, rows: list[Row], served: list[Served], console: Console, *, checked: bool) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, caption=f"Kept in {store.root}", caption_justify="left")
    for heading in ("Service", "Weight", "Size", "Licence", "State", "From"):
        table.add_column(heading, justify="right" if heading == "Size" else "left", overflow="fold")
    for row in rows:
        weight, state = row.weight, row.state.value
        if row.state is State.PRESENT and checked:
            state = "verified"
        if row.state is State.MISSING and weight.optional:
            state = "optional"
        size = f"{weight.size / 1e6:.1f} MB" if weight.size >= 1e5 else f"{weight.size / 1e3:.1f} kB"
        table.add_row(row.service, weight.name, size, weight.licence, state, weight.source.partition("#")[0])
    console.print(table)
    for one in served:
        console.print(f"{one.service} at {one.address} serves {', '.join(one.models) or 'no model'}", highlight=False)


def _as_json(store: WeightStore, rows: list[Row], served: list[Served]) -> dict[str, object]:
    weights = []
    for row in rows:
        path = str(store.path(row.weight)) if row.state is not State.MISSING else None
        weights.append({"service": row.service, **asdict(row.weight), "state": row.state.value, "path": path})
    return {"root": str(store.root), "weights": weights, "services": [asdict(one) for one in served]}


def _ask_services(settings: ModelsSettings) -> list[Served]:
    """Asks each service that runs what it serves; one that does not answer is left out."""
    import asyncio

    return asyncio.run(_ask_all(settings))


async def _ask_all(settings: ModelsSettings) -> list[Served]:
    import asyncio

    answers = await asyncio.gather(
        _ask_stt(settings.stt), _ask_tts(settings.tts), _ask_llm(settings.llm), return_exceptions=False
    )
    return [answer for answer in answers if answer is not None]
