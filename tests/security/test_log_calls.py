"""What the test with a whole conversation cannot reach: every call that logs, by the names of what it logs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("mesh", "stt_service", "tts_service", "llm_service", "orchestrator", "gateway", "ui", "loadtest")
SHOWN = {"info", "warning", "error", "critical", "exception"}
PERSONAL = {
    "text",
    "transcript",
    "prompt",
    "instructions",
    "messages",
    "arguments_json",
    "output",
    "audio",
    "samples",
    "data",
    "token",
    "password",
    "api_key",
    "request",
    "event",
}


def names(expression: ast.AST) -> Iterator[str]:
    """Yields every name in an expression; how long something is tells nothing of it."""
    match expression:
        case ast.Call(func=ast.Name(id="len")):
            return
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
    for part in ast.iter_child_nodes(expression):
        yield from names(part)


def logged_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields line and name of whatever is an argument of a call that logs above DEBUG, or a part of one."""
    for call in ast.walk(tree):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in SHOWN
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id in ("log", "_log", "logger")
        ):
            for argument in call.args[1:]:
                for name in names(argument):
                    yield call.lineno, name


@pytest.mark.promise("logs")
def test_no_call_logs_what_was_said() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for line, name in logged_names(ast.parse(path.read_text()))
        if name in PERSONAL
    ]
    assert not found


def test_such_a_call_would_be_found() -> None:
    tree = ast.parse('_log.info("%s %d %s", self.id, len(text), item.text)\n_log.debug("%s", text)')
    assert [name for _, name in logged_names(tree) if name in PERSONAL] == ["text"]
