"""The core is pure: it reads no clock, does no I/O, starts no task, draws no lots."""

from __future__ import annotations

import ast
from pathlib import Path

import orchestrator.turns

ALLOWED = {"__future__", "collections.abc", "dataclasses", "enum", "operator", "re", "typing", "unicodedata"}
FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}


def modules() -> list[Path]:
    return sorted(Path(orchestrator.turns.__file__).parent.glob("**/*.py"))


def test_it_imports_nothing_but_itself_and_what_is_pure() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                assert not node.level, path
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                assert name in ALLOWED or name.startswith("orchestrator.turns"), f"{path.name} imports {name}"


def test_it_calls_nothing_that_reaches_outside() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, path
            assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.Global | ast.Nonlocal), path


def test_its_files_stay_small() -> None:
    assert all(len(path.read_text().splitlines()) < 400 for path in modules())
