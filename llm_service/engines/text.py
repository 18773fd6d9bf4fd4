"""Text as models write it, in pieces: whole code points, and thoughts apart from what is said."""

from __future__ import annotations

_HIGH, _LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)
_OPEN, _CLOSE = "<think>", "</think>"


class CodePoints:
    """Joins halves of code points that JSON has cut apart, so that every piece is whole."""

    def __init__(self) -> None:
        self._half = ""

    def push(self, piece: str) -> str:
        """Returns what is whole of all pieces so far and has not been returned yet."""
        text = self._half + piece
        self._half = text[-1] if text and ord(text[-1]) in _HIGH else ""
        return _joined(text[: len(text) - len(self._half)])

    def flush(self) -> str:
        """Returns what is left: nothing, or a replacement for half a code point."""
        left, self._half = self._half, ""
        return _joined(left)


class Thoughts:
    """Tells a `<think>` block at the beginning of an answer from the answer."""

    def __init__(self, *, thinking: bool = False) -> None:
        """`thinking`: the prompt has opened the block already."""
        self._state = "thinking" if thinking else "start"
        self._held = ""

    def push(self, piece: str) -> list[tuple[str, bool]]:
        """Returns what is certain now, as texts and whether each is a thought."""
        found: list[tuple[str, bool]] = []
        self._held += piece
        if self._state == "start":
            begun = self._held.lstrip()
            if begun.startswith(_OPEN):
                self._state, self._held = "thinking", begun[len(_OPEN) :]
            elif not _OPEN.startswith(begun):
                self._state = "answer"
        if self._state == "thinking":
            thought, close, rest = self._held.partition(_CLOSE)
            if close:
                self._state, self._held = "gap", rest
            else:
                # The beginning of the end mark may be there already.
                keep = next((n for n in range(len(_CLOSE) - 1, 0, -1) if thought.endswith(_CLOSE[:n])), 0)
                thought, self._held = thought[: len(thought) - keep], thought[len(thought) - keep :]
            if thought:
                found.append((thought, True))
        if self._state == "gap":
            # Blank lines between the thoughts and the answer belong to neither.
            self._held = self._held.lstrip()
            if self._held:
                self._state = "answer"
        if self._state == "answer" and self._held:
            found.append((self._held, False))
            self._held = ""
        return found

    def flush(self) -> list[tuple[str, bool]]:
        """Returns what is left, as if the text ended here."""
        left, self._held = self._held, ""
        return [(left, self._state == "thinking")] if left and self._state != "gap" else []


def _joined(text: str) -> str:
    if not any(ord(char) in _HIGH or ord(char) in _LOW for char in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
