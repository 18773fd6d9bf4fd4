"""`unmute models`: the weights that the services may need, and the models that running services serve."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from mesh.cli import Command
from mesh.client.settings import ClientSettings
from mesh.settings import Upstreams
from mesh.weights import State, Weight, WeightStore, load_weights

if TYPE_CHECKING:
    import grpc.aio
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class ModelsSettings(Upstreams, ClientSettings):
    """Lists the weights that the services may need, and what running services serve."""

    timeout: float = Field(2.0, gt=0, description="Seconds that a service is given to say what it serves.")
    fetch: bool = Field(False, description="Fetch the weights that are missing, except the optional ones.")
    all: bool = Field(False, description="With --fetch: the optional ones too.")
    check: bool = Field(False, description="Read every file and compare its hash; exit code 1 if one is not right.")


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
    served = asyncio.run(_ask_services(settings))
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
            store.fetch_all(group, functools.partial(_advance, bars, task))
            size = sum(weight.size for weight in group)
            if not bars.tasks[task].completed:
                _advance(bars, task, size, size)


def _advance(bars: Bars, task: TaskID, done: int, total: int) -> None:
    bars.update(task, completed=done, total=total)


def _print(store: WeightStore, rows: list[Row], served: list[Served], console: Console, *, checked: bool) -> None:
    from rich.table import Table

    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), caption=f"Kept in {store.root}", caption_justify="left"
    )
    for heading in ("Service", "Weights", "Size", "State"):
        table.add_column(heading, justify="right" if heading == "Size" else "left", no_wrap=True)
    table.add_column("Licence", max_width=12)
    table.add_column("From", overflow="fold")
    for group in _by_folder(rows):
        weights = [row.weight for row in group]
        licences = ", ".join(sorted({weight.licence for weight in weights}))
        size = f"{sum(weight.size for weight in weights) / 1e6:.1f} MB"
        origin = weights[0].source.partition("#")[0]
        table.add_row(group[0].service, _folder(weights[0]), size, _state(group, checked=checked), licences, origin)
    console.print(table)
    for row in rows:
        if row.state is State.DAMAGED:
            console.print(f"damaged: {store.path(row.weight)}", highlight=False, soft_wrap=True)
    for one in served:
        console.print(f"{one.service} at {one.address} serves {', '.join(one.models) or 'no model'}", highlight=False)


def _folder(weight: Weight) -> str:
    return weight.name.rpartition("/")[0] or weight.name


def _by_folder(rows: list[Row]) -> list[list[Row]]:
    """Files that are loaded together make one line."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.service, _folder(row.weight)), []).append(row)
    return list(groups.values())


def _state(group: list[Row], *, checked: bool) -> str:
    states = {row.state for row in group}
    if State.DAMAGED in states:
        return "damaged"
    if State.MISSING in states:
        return "optional" if all(row.weight.optional for row in group) else "missing"
    return "verified" if checked else "present"


def _as_json(store: WeightStore, rows: list[Row], served: list[Served]) -> dict[str, object]:
    weights = []
    for row in rows:
        path = str(store.path(row.weight)) if row.state is not State.MISSING else None
        weights.append({"service": row.service, **asdict(row.weight), "state": row.state.value, "path": path})
    return {"root": str(store.root), "weights": weights, "services": [asdict(one) for one in served]}


async def _ask_services(settings: ModelsSettings) -> list[Served]:
    """Asks each service that runs what it serves; one that does not answer is left out."""
    asked = {"stt": settings.stt, "tts": settings.tts, "llm": settings.llm}
    answers = await asyncio.gather(*(_ask(settings, service, address) for service, address in asked.items()))
    return [answer for answer in answers if answer is not None]


async def _ask(settings: ModelsSettings, service: str, address: str) -> Served | None:
    import grpc

    async with settings.open_channel(address) as channel:
        try:
            return Served(service, address, await _served(service, channel, settings.timeout))
        except grpc.aio.AioRpcError:
            return None


async def _served(service: str, channel: grpc.aio.Channel, timeout: float) -> tuple[str, ...]:
    """Returns the ids of the models, or of the voices, the default first."""
    match service:
        case "stt":
            from unmute.stt.v1 import stt_pb2, stt_pb2_grpc

            stt = stt_pb2_grpc.SpeechToTextServiceStub(channel)
            models = await stt.ListModels(stt_pb2.ListModelsRequest(), timeout=timeout)
            return tuple(model.id for model in models.models)
        case "tts":
            from unmute.tts.v1 import tts_pb2, tts_pb2_grpc

            tts = tts_pb2_grpc.TextToSpeechServiceStub(channel)
            voices = await tts.ListVoices(tts_pb2.ListVoicesRequest(), timeout=timeout)
            return tuple(f"{voice.model}/{voice.id}" if voice.model else voice.id for voice in voices.voices)
        case _:
            from unmute.llm.v1 import llm_pb2, llm_pb2_grpc

            llm = llm_pb2_grpc.LlmServiceStub(channel)
            answers = await llm.ListModels(llm_pb2.ListModelsRequest(), timeout=timeout)
            return tuple(model.id for model in answers.models)


command = Command("List, fetch and check the weights of the models.", ModelsSettings, run)
