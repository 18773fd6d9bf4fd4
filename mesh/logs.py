"""Logs: one line per record, as plain text or as JSON, with the conversation that it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]


@dataclass(slots=True)
class Ids:
    """What a record belongs to. All tasks of a conversation share one, so that each knows the turn."""

    session: str = ""
    turn: str = ""


_NOBODY = Ids()
_ids: ContextVar[Ids] = ContextVar("ids", default=_NOBODY)


def bind_ids(session: str, turn: str = "") -> Ids:
    """Makes this task, and those it will start, log as a conversation's; returns what holds its ids."""
    ids = Ids(session, turn)
    _ids.set(ids)
    return ids


def current_ids() -> Ids:
    """Returns the ids of the conversation that this task belongs to; empty ones if it belongs to none."""
    return _ids.get()


class TextFormatter(logging.Formatter):
    """Formats every record, a traceback included, as one plain line: level, service, ids, message."""

    def __init__(self, name: str) -> None:
        """`name` is the service's."""
        super().__init__(f"%(levelname)s {name}%(ids)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record's line."""
        ids = current_ids()
        record.ids = f" [{' '.join(filter(None, (ids.session, ids.turn)))}]" if ids.session else ""
        return " | ".join(line.strip() for line in super().format(record).splitlines() if line.strip())


class JsonFormatter(logging.Formatter):
    """Formats every record as one JSON object."""

    def __init__(self, name: str) -> None:
        """`name` is the service's."""
        super().__init__("%(message)s")
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record's line."""
        ids = current_ids()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._name,
            "logger": record.name,
            "session": ids.session,
            "turn": ids.turn,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(name: str, level: str, style: LogFormat = "text") -> None:
    """Sends the records of this process to stderr.

    Args:
        name: the service's.
        level: the least severe that is shown.
        style: plain lines, or an object of JSON for each record.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(name) if style == "json" else TextFormatter(name))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Libraries may log what they are given, which can be what someone said.
    for library in ("httpx", "httpx2", "httpcore", "faster_whisper", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
