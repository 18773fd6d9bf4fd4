from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = re.compile(r'pytest\.mark\.promise\("([a-z-]+)"\)')


def promised() -> list[str]:
    text = (ROOT / "docs" / "security.md").read_text()
    return re.findall(r"^- `\[([a-z-]+)\]`", text, re.MULTILINE)


def test_every_bullet_is_a_promise_with_a_name_of_its_own() -> None:
    bullets = re.findall(r"^- ", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE)
    names = promised()
    assert len(bullets) == len(names) == len(set(names))


def test_every_promise_has_a_test_and_every_such_test_a_promise() -> None:
    tested = {name for path in (ROOT / "tests").rglob("test_*.py") for name in MARK.findall(path.read_text())}
    assert tested == set(promised())
