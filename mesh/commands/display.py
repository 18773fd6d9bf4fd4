"""What `unmute up` shows: a live table until all is ready, and every service's log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_COLOURS = {"stt": "cyan", "tts": "magenta", "llm": "yellow", "orchestrator": "blue", "ui": "green", "up": "bold"}
_WIDTH = 12


def _colour(name: str) -> str:
    """The colour of a process: that of its service, `stt` of `stt-2`."""
    return _COLOURS.get(name.partition("-")[0], "")


class PlainDisplay:
    """One plain line for everything that happens; for files, pipes and people who want no colour."""

    def __init__(self, addresses: Mapping[str, str], hint: str, stream: TextIO) -> None:
        """`addresses` by service; `hint` is said once all are ready."""
        self._addresses = addresses
        self._hint = hint
        self._stream = stream

    def line(self, name: str, text: str) -> None:
        """Shows a line of a service's log."""
        self._stream.write(f"{name:<{_WIDTH}} | {text}\n")
        self._stream.flush()

    def state(self, name: str, state: str, detail: str = "") -> None:
        """Shows what happened to a service."""
        self.line("up", describe(name, state, detail, self._addresses[name]))

    def all_ready(self) -> None:
        """Shows how to go on."""
        self.line("up", self._hint)


class LiveDisplay:
    """Colours and a table that moves, on a terminal."""

    def __init__(self, addresses: Mapping[str, str], hint: str, console: Console) -> None:
        """`addresses` by service; `hint` is said once all are ready."""
        self._addresses = addresses
        self._hint = hint
        self._console = console
        self._states = dict.fromkeys(addresses, "starting")
        self._began = time.monotonic()
        self._spinner = Spinner("dots")
        self.live = Live(get_renderable=self._table, console=console, refresh_per_second=8, transient=True)

    def line(self, name: str, text: str) -> None:
        """Shows a line of a service's log, above the table."""
        self._console.print(Text.assemble((f"{name:<{_WIDTH}} | ", _colour(name)), text), soft_wrap=True)

    def state(self, name: str, state: str, detail: str = "") -> None:
        """Shows what happened to a service."""
        self._states[name] = state
        if state != "starting":
            self.line("up", describe(name, state, detail, self._addresses[name]))

    def all_ready(self) -> None:
        """Ends the table and shows how to go on."""
        self.live.stop()
        self.line("up", self._hint)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, state in self._states.items():
            mark = Text("✓", style="green") if state == "ready" else self._spinner
            table.add_row(mark, Text(name, style=_colour(name)), Text(state), Text(self._addresses[name]))
        table.add_row("", "", Text(f"{time.monotonic() - self._began:.0f} s", style="dim"), "")
        return table


def describe(name: str, state: str, detail: str, address: str) -> str:
    """Returns one sentence for what happened to a service."""
    match state:
        case "ready":
            return f"{name} is SERVING on {address}"
        case "starting":
            return f"{name} is starting on {address}"
        case _:
            return f"{name} {detail}" if detail else f"{name}: {state}"


@contextmanager
def make_display(addresses: Mapping[str, str], hint: str) -> Iterator[PlainDisplay | LiveDisplay]:
    """Yields the display that suits stdout."""
    console = Console()
    if not console.is_terminal or console.no_color:
        yield PlainDisplay(addresses, hint, sys.stdout)
        return
    display = LiveDisplay(addresses, hint, console)
    with display.live:
        yield display
