"""How a conversation is shown: lines for people, JSON lines for scripts."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from google.protobuf.json_format import MessageToDict
from rich.box import SIMPLE
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mesh.client.latency import AnswerTiming, Interruption
from mesh.client.script import Spoken, Utterance
from mesh.client.transcript import Line
from unmute.conversation.v1 import conversation_pb2 as pb

_NAMES = {"user": "You", "assistant": "Assistant"}
_STYLES = {"user": "bold cyan", "assistant": "bold green"}
_STATUS = {
    "connecting": "connecting ...",
    "speaking": "speaking ...",
    "playing": "the assistant speaks ...",
    "listening": "listening ...",
}
_COLUMNS = (
    ("end of turn", "end_of_turn"),
    ("transcript", "transcript"),
    ("first token", "first_token"),
    ("first audio", "first_audio"),
    ("transport", "transport"),
    ("heard", "heard"),
)


class TerminalView:
    """Lines of a transcript; on a terminal the open ones grow in place."""

    def __init__(self, console: Console | None = None) -> None:
        """`console` is the standard output's by default."""
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=12, transient=True, auto_refresh=False)
        self._shown = ("", "", "")
        if self._console.is_terminal:
            self._live.start()

    def event(self, at: float, event: pb.ConverseResponse) -> None:
        """Errors of a conversation that goes on are worth a line."""
        if event.WhichOneof("event") == "error":
            self.notice(event.error.message)

    def line(self, at: float, line: Line) -> None:
        """Prints a final line."""
        text = _spoken(line.speaker, line.text)
        if line.interrupted:
            text.append(" — (interrupted)", "dim")
        self._console.print(text)

    def live(self, user: str, assistant: str, status: str) -> None:
        """Redraws what is open, when it has changed."""
        shown = (user, assistant, status)
        if shown == self._shown or not self._console.is_terminal:
            return
        self._shown = shown
        rows = [_spoken("user", user)] if user else []
        rows += [_spoken("assistant", assistant)] if assistant else []
        self._live.update(Group(*rows, Text(_STATUS[status], "dim")), refresh=True)

    def said(self, at: float, utterance: Utterance) -> None:
        """Speech shows up as its transcript: there is nothing to add."""

    def notice(self, text: str) -> None:
        """Prints a remark."""
        self._console.print(Text(f"({' '.join(text.split())})", "dim"))

    def close(self) -> None:
        """Leaves the terminal as it was found; safe to call twice."""
        self._live.stop()

    def summary(
        self, answers: list[AnswerTiming], interruptions: list[Interruption], saved: str, seconds: float
    ) -> None:
        """Prints the latency table and what was saved."""
        self.close()
        timed = [answer for answer in answers if answer.first_audio is not None or answer.heard is not None]
        if timed:
            self._console.print(_latency_table(timed))
        for item in interruptions:
            what = "Interrupted" if item.real else "Paused, and went on"
            delay = "" if item.speech_to_silence is None else f": silent {_ms(item.speech_to_silence)} after you began"
            self._console.print(f"{what}{delay}.")
        if saved:
            self._console.print(f"Saved {seconds:.1f} s of the assistant's speech to {saved}.")


class JsonView:
    """One JSON object a line: every event, every final line, and at the end a summary."""

    def __init__(self, out: TextIO | None = None) -> None:
        """`out` is the standard output by default."""
        self._out = out or sys.stdout

    def event(self, at: float, event: pb.ConverseResponse) -> None:
        """Writes an event; audio is replaced by its size."""
        kind = event.WhichOneof("event") or "unknown"
        if kind == "output_audio_delta":
            size = len(event.output_audio_delta.audio.data)
            slim = pb.ConverseResponse()
            slim.CopyFrom(event)
            slim.output_audio_delta.audio.ClearField("data")
            self._write(at, kind, **_fields(slim), byte_count=size)
        else:
            self._write(at, kind, **_fields(event))

    def line(self, at: float, line: Line) -> None:
        """Writes a final line of the transcript."""
        self._write(at, "line", speaker=line.speaker, text=line.text, interrupted=line.interrupted)

    def live(self, user: str, assistant: str, status: str) -> None:
        """The events say it all."""

    def said(self, at: float, utterance: Utterance) -> None:
        """Writes what the client begins to say."""
        if isinstance(utterance, Spoken):
            self._write(at, "said", file=utterance.name)
        else:
            self._write(at, "said", text=utterance.text)

    def notice(self, text: str) -> None:
        """Writes a remark."""
        self._write(None, "notice", message=text)

    def close(self) -> None:
        """There is nothing to put back."""

    def summary(
        self, answers: list[AnswerTiming], interruptions: list[Interruption], saved: str, seconds: float
    ) -> None:
        """Writes every time, in seconds."""
        self._write(
            None,
            "summary",
            answers=[
                {"response_id": answer.response_id, "status": answer.status}
                | {name: _rounded(getattr(answer, name)) for _, name in _COLUMNS}
                for answer in answers
            ],
            interruptions=[
                {
                    "response_id": item.response_id,
                    "real": item.real,
                    "speech_to_silence": _rounded(item.speech_to_silence),
                    "dropped": _rounded(item.dropped),
                }
                for item in interruptions
            ],
            saved=saved or None,
            assistant_audio=_rounded(seconds),
        )

    def _write(self, at: float | None, event: str, **fields: Any) -> None:
        head: dict[str, Any] = {"event": event} if at is None else {"at": _rounded(at), "event": event}
        self._out.write(json.dumps(head | fields, ensure_ascii=False) + "\n")
        self._out.flush()


def _fields(event: pb.ConverseResponse) -> dict[str, Any]:
    """Returns the event's own fields beside those that every event has."""
    whole = MessageToDict(event, preserving_proto_field_name=True)
    body: dict[str, Any] = whole.pop(event.WhichOneof("event") or "", {})
    return whole | body


def _spoken(speaker: str, text: str) -> Text:
    return Text.assemble((f"{_NAMES[speaker]}: ", _STYLES[speaker]), text)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


def _latency_table(answers: list[AnswerTiming]) -> Table:
    table = Table(
        title="From the end of your speech",
        caption="heard = first audio (the server's clock) + transport (the way to and from it)",
        box=SIMPLE,
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("answer", justify="right")
    for title, _ in _COLUMNS:
        table.add_column(title, justify="right")
    for number, answer in enumerate(answers, 1):
        table.add_row(str(number), *(_ms(getattr(answer, name)) for _, name in _COLUMNS))
    return table
