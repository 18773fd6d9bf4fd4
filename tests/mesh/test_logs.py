from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from mesh.logs import JsonFormatter, TextFormatter, bind_ids, current_ids

# Every test is a task of its own, so that the ids that it binds end with it.


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, io.StringIO, logging.StreamHandler[io.StringIO]]]:
    logger = logging.getLogger("mesh.example")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    yield logger, stream, handler
    logger.removeHandler(handler)
    handler.close()


Logged = tuple[logging.Logger, io.StringIO, "logging.StreamHandler[io.StringIO]"]


async def test_a_line_of_json_says_when_who_whose_and_what(logged: Logged) -> None:
    logger, stream, handler = logged
    handler.setFormatter(JsonFormatter("stt"))
    bind_ids("sess_1", "item_2")
    logger.warning("it is %d\nand odd", 3)
    [line] = stream.getvalue().splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "WARNING",
        "service": "stt",
        "logger": "mesh.example",
        "session": "sess_1",
        "turn": "item_2",
        "message": "it is 3\nand odd",
    }


async def test_an_exception_stays_on_the_line_of_its_record(logged: Logged) -> None:
    logger, stream, handler = logged
    for formatter in (JsonFormatter("stt"), TextFormatter("stt")):
        handler.setFormatter(formatter)
        try:
            raise ValueError("odd")
        except ValueError:
            logger.exception("it failed")
    first, second = stream.getvalue().splitlines()
    assert "ValueError: odd" in json.loads(first)["exception"]
    assert second.startswith("ERROR stt: it failed | Traceback")
    assert second.endswith("ValueError: odd")


async def test_a_plain_line_names_a_conversation_where_there_is_one(logged: Logged) -> None:
    logger, stream, handler = logged
    handler.setFormatter(TextFormatter("llm"))
    logger.warning("before")
    ids = bind_ids("sess_1")
    logger.warning("in it")
    ids.turn = "item_2"
    logger.warning("in a turn")
    assert stream.getvalue().splitlines() == [
        "WARNING llm: before",
        "WARNING llm [sess_1]: in it",
        "WARNING llm [sess_1 item_2]: in a turn",
    ]
    assert current_ids() is ids
