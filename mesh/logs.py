"""Logs: one plain line per record, level, service, message."""

from __future__ import annotations

import logging
import sys


class LineFormatter(logging.Formatter):
    """Formats every record, a traceback included, as one line."""

    def __init__(self, name: str) -> None:
        """`name` is the service's."""
        super().__init__(f"%(levelname)s {name}: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record's line."""
        return " | ".join(line.strip() for line in super().format(record).splitlines() if line.strip())


def configure_logging(name: str, level: str) -> None:
    """Sends the records of this process to stderr; `level` is the least severe that is shown."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(name))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Libraries may log what they are given, which can be what someone said.
    for library in ("httpx", "httpcore", "faster_whisper", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
