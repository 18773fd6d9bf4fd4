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
    """Shows which services are serving; ends with 1 unless all that are asked are."""

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
    """Prints the state of every service asked; returns 1 unless all are SERVING."""
    found = asyncio.run(check_all(settings))
    rows = [
        {
            "service": name,
            "state": health.state.value,
            "address": getattr(settings, name),
            "latency_ms": round(health.latency * 1000, 1),
            "detail": health.detail,
        }
        for name, health in found.items()
    ]
    if settings.json_output:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        _print_table(rows)
    return 0 if all(row["state"] == "SERVING" for row in rows) else 1


async def check_all(settings: HealthSettings) -> dict[str, Health]:
    """Returns the health of `settings.services` by short name, all asked at once."""
    from mesh.channels import check_health

    async def check(name: str) -> Health:
        async with settings.open_channel(getattr(settings, name)) as channel:
            return await check_health(channel, HEALTH_NAMES[name], settings.timeout)

    return dict(zip(settings.services, await asyncio.gather(*map(check, settings.services)), strict=True))


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
