"""`unmute health`: the state of every service."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from mesh.cli import Command
from mesh.client.settings import ClientSettings
from mesh.names import HEALTH_NAMES, split_names
from mesh.settings import Addresses

if TYPE_CHECKING:
    from mesh.channels import Health


class HealthSettings(Addresses, ClientSettings):
    """Shows every backend of the services; ends with 1 unless each service that is asked has one that serves."""

    only: str = Field(default="", description="Ask only these services, separated by commas.")
    timeout: float = Field(default=3.0, gt=0, le=4.5, description="Longest wait, in seconds, for all answers.")

    @field_validator("only")
    @classmethod
    def _known(cls, value: str) -> str:
        unknown = [name for name in split_names(value) if name not in HEALTH_NAMES]
        if unknown:
            raise ValueError(f"no such service: {', '.join(unknown)} (there are {', '.join(HEALTH_NAMES)})")
        return value

    @property
    def services(self) -> tuple[str, ...]:
        """Short names of what to ask."""
        return tuple(split_names(self.only)) or tuple(HEALTH_NAMES)


def run(settings: HealthSettings) -> int:
    """Prints the state of every backend; returns 1 unless each service asked has one that is SERVING."""
    found = asyncio.run(check_all(settings))
    rows: list[dict[str, object]] = [
        {
            "service": name,
            "state": health.state.value,
            "address": address,
            "latency_ms": round(health.latency * 1000, 1),
            "detail": health.detail,
        }
        for (name, address), health in found.items()
    ]
    if settings.json_output:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        _print_table(rows)
    serving = {row["service"] for row in rows if row["state"] == "SERVING"}
    return 0 if serving >= set(settings.services) else 1


async def check_all(settings: HealthSettings) -> dict[tuple[str, str], Health]:
    """Returns the health of all backends of `settings.services`, by service and address; all are asked at once."""
    parts = await asyncio.gather(*(_check(settings, name) for name in settings.services))
    return {key: health for part in parts for key, health in part.items()}


async def _check(settings: HealthSettings, name: str) -> dict[tuple[str, str], Health]:
    from mesh.backends.addresses import Endpoint, Resolver
    from mesh.channels import Health, HealthState, check_health

    async def check(endpoint: Endpoint) -> Health:
        async with settings.open_channel(endpoint.target, endpoint.authority) as channel:
            return await check_health(channel, HEALTH_NAMES[name], settings.timeout)

    addresses: str = getattr(settings, name)
    endpoints = await Resolver(addresses).resolve()
    if not endpoints:
        return {(name, addresses): Health(HealthState.DOWN, 0.0, "no address was found")}
    healths = await asyncio.gather(*map(check, endpoints))
    return {(name, endpoint.target): health for endpoint, health in zip(endpoints, healths, strict=True)}


def _print_table(rows: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {"SERVING": "green", "loading": "yellow"}
    table = Table(box=None, pad_edge=False)
    for title in ("service", "state", "address"):
        table.add_column(title, no_wrap=True)
    table.add_column("latency", justify="right", no_wrap=True)
    table.add_column("detail", overflow="fold")
    for row in rows:
        state = str(row["state"])
        cells = (str(row["service"]), str(row["address"]), f"{row['latency_ms']} ms", str(row["detail"]))
        table.add_row(
            cells[0], Text(state, style=styles.get(state, "red")), Text(cells[1]), Text(cells[2]), Text(cells[3])
        )
    # A pipe has no width: one line for each service.
    Console(width=None if sys.stdout.isatty() else 500).print(table)


command = Command(help="Show which services are serving.", settings=HealthSettings, run=run)
