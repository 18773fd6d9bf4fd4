"""What clients rely on in a response's events: every item and part begun once, filled, and ended once, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.turns import client
from orchestrator.turns.items import CallItem, ItemStatus, MessageItem


@dataclass
class _Part:
    spoken: bool
    text: str = ""
    text_done: bool = False
    audio_done: bool = False


@dataclass
class _Open:
    """A response that goes on."""

    items: list[str] = field(default_factory=list)
    """In the order of their output indices."""
    ended: list[str] = field(default_factory=list)
    parts: dict[str, _Part] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    arguments_done: set[str] = field(default_factory=set)


class Structure:
    """Follows the events of all responses."""

    def __init__(self) -> None:
        self.open: dict[str, _Open] = {}

    def watch(self, event: client.ClientEvent) -> None:
        match event:
            case client.ResponseCreated(response):
                self.open[response.id] = _Open()
            case client.ResponseDone(response):
                ended = self.open.pop(response.id)
                assert sorted(ended.items) == sorted(ended.ended), "an item that was begun and not ended, or twice"
                kept = [item.id for item in response.output]
                assert kept == [item for item in ended.items if item in kept], "items out of order"
            case client.OutputItemAdded(response_id, index, item):
                there = self.open[response_id]
                assert index == len(there.items), "an index left out"
                if isinstance(item, MessageItem):
                    assert not item.text
                elif isinstance(item, CallItem):
                    assert not item.arguments_json
                there.items.append(item.id)
            case client.OutputItemDone(response_id, index, item):
                there = self.open[response_id]
                assert there.items[index] == item.id
                assert item.id not in there.ended
                if isinstance(item, MessageItem):
                    assert item.id not in there.parts, "an item ended before its part"
                    assert item.status is not ItemStatus.IN_PROGRESS
                else:
                    assert isinstance(item, CallItem)
                    assert (item.id in there.arguments_done) == (item.status is ItemStatus.COMPLETED)
                    assert item.arguments_json == there.arguments.get(item.id, "")
                there.ended.append(item.id)
            case _:
                self._watch_part(event)

    def _watch_part(self, event: client.ClientEvent) -> None:
        match event:
            case client.ContentPartAdded(response_id, item_id, index, spoken):
                there = self.open[response_id]
                assert there.items[index] == item_id
                assert item_id not in there.parts
                there.parts[item_id] = _Part(spoken)
            case client.ContentPartDone(response_id, item_id, index, spoken, text):
                there = self.open[response_id]
                assert there.items[index] == item_id
                part = there.parts.pop(item_id)
                assert part.text_done
                assert part.audio_done == part.spoken == spoken
                assert text.strip() == part.text.strip() or part.spoken
            case client.OutputTextDelta(response_id, item_id, text, start):
                part = self._part(response_id, item_id, event.output_index)
                assert part.spoken == (start is not None)
                assert not part.text_done
                part.text += text
            case client.OutputTextDone(response_id, item_id):
                part = self._part(response_id, item_id, event.output_index)
                assert not part.text_done
                part.text_done = True
            case client.OutputAudioDone(response_id, item_id):
                part = self._part(response_id, item_id, event.output_index)
                assert part.spoken
                assert not part.audio_done
                part.audio_done = True
            case client.ToolArgumentsDelta(response_id, item_id, index, delta=delta):
                there = self.open[response_id]
                assert there.items[index] == item_id
                assert item_id not in there.arguments_done
                there.arguments[item_id] = there.arguments.get(item_id, "") + delta
            case client.ToolArgumentsDone(response_id, item_id, index):
                there = self.open[response_id]
                assert there.items[index] == item_id
                assert event.arguments_json == there.arguments.get(item_id, "")
                there.arguments_done.add(item_id)
            case _:
                pass

    def audio(self, response_id: str, item_id: str, index: int) -> None:
        """Audio was sent."""
        part = self._part(response_id, item_id, index)
        assert part.spoken
        assert not part.audio_done

    def _part(self, response_id: str, item_id: str, index: int) -> _Part:
        there = self.open[response_id]
        assert there.items[index] == item_id
        return there.parts[item_id]
