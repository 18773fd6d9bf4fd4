"""The transcript of a conversation as it is heard: words appear when they are played, and stay only if they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mesh.client.player import Part, Progress
from mesh.durations import to_seconds
from unmute.conversation.v1 import conversation_pb2 as pb

Speaker = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Line:
    """What one side said in one go."""

    speaker: Speaker
    """Who."""
    text: str
    """What was said; of an answer, what was heard of it."""
    interrupted: bool = False
    """The answer was cut off."""


@dataclass(slots=True)
class _Word:
    text: str
    part: Part
    start: float | None


@dataclass(slots=True)
class _Answer:
    response_id: str
    words: list[_Word] = field(default_factory=list)
    shown: int = 0
    complete: bool = False

    def text(self, count: int | None = None) -> str:
        return "".join(word.text for word in self.words[:count]).strip()


class Transcript:
    """Builds lines from the server's events and the player's progress."""

    def __init__(self, rate: int) -> None:
        """`rate` of playback in Hz."""
        self._rate = rate
        self._user: dict[str, str] = {}
        self._interim: dict[str, str] = {}
        self._finished_users: set[str] = set()
        self._answers: dict[str, _Answer] = {}
        self._finished_answers: set[str] = set()
        self._lines: list[Line] = []

    @property
    def open_user(self) -> str:
        """What the user is saying, interim text included."""
        items = dict.fromkeys([*self._user, *self._interim])
        return " ".join(
            " ".join(f"{self._user.get(item, '')} {self._interim.get(item, '')}".split()) for item in items
        ).strip()

    @property
    def open_assistant(self) -> str:
        """What has been heard of the answer that is being spoken."""
        return " ".join(text for answer in self._answers.values() if (text := answer.text(answer.shown)))

    def take_lines(self) -> list[Line]:
        """Returns the lines finished since the last call, in order."""
        lines, self._lines = self._lines, []
        return lines

    def typed(self, text: str) -> None:
        """The user wrote `text`."""
        self._lines.append(Line("user", text))

    def apply(self, event: pb.ConverseResponse) -> None:
        """Takes one event of the server."""
        match event.WhichOneof("event"):
            case "input_transcript_delta":
                delta = event.input_transcript_delta
                if delta.item_id not in self._finished_users:
                    self._user[delta.item_id] = self._user.get(delta.item_id, "") + delta.text.text
                    self._interim.pop(delta.item_id, None)
            case "input_transcript_interim":
                if event.input_transcript_interim.item_id not in self._finished_users:
                    self._interim[event.input_transcript_interim.item_id] = event.input_transcript_interim.text
            case "input_transcript_done":
                self._finish_user(event.input_transcript_done)
            case "output_text_delta":
                self._hear(event.output_text_delta)
            case "item_truncated":
                self._finish_answer(event.item_truncated.item_id, event.item_truncated.transcript, interrupted=True)
            case "item_done":
                if answer := self._answers.get(event.item_done.item.id):
                    answer.complete = True
            case "response_done":
                self._end_response(event.response_done.response)

    def played(self, progress: Progress | None, idle: bool) -> None:
        """Shows the words whose sound has begun, and ends the answers that were played out."""
        for item_id, answer in list(self._answers.items()):
            while answer.shown < len(answer.words) and self._is_heard(answer.words[answer.shown], progress):
                answer.shown += 1
            if answer.complete and idle:
                self._finish_answer(item_id, answer.text(), interrupted=False)

    def close(self) -> None:
        """The conversation is over: what is still open becomes lines, as far as it was heard."""
        for item_id in dict.fromkeys([*self._user, *self._interim]):
            text = f"{self._user.get(item_id, '')} {self._interim.get(item_id, '')}"
            self._finish_user(pb.InputTranscriptDone(item_id=item_id, transcript=text))
        for item_id, answer in list(self._answers.items()):
            self._finish_answer(item_id, answer.text(answer.shown), interrupted=answer.shown < len(answer.words))

    def _is_heard(self, word: _Word, progress: Progress | None) -> bool:
        if word.start is None:
            return True
        if progress is None or progress.part != word.part:
            return False
        return word.start * self._rate < progress.played

    def _hear(self, delta: pb.OutputTextDelta) -> None:
        ref = delta.ref
        if not delta.spoken or ref.item_id in self._finished_answers:
            return
        answer = self._answers.setdefault(ref.item_id, _Answer(ref.response_id))
        start = to_seconds(delta.text.span.start_offset) if delta.text.HasField("span") else None
        answer.words.append(_Word(delta.text.text, Part(ref.item_id, ref.content_index), start))

    def _finish_user(self, done: pb.InputTranscriptDone) -> None:
        self._user.pop(done.item_id, None)
        self._interim.pop(done.item_id, None)
        text = " ".join(done.transcript.split())
        if text and done.item_id not in self._finished_users:
            self._lines.append(Line("user", text))
        self._finished_users.add(done.item_id)

    def _end_response(self, response: pb.Response) -> None:
        completed = response.status in (pb.RESPONSE_STATUS_COMPLETED, pb.RESPONSE_STATUS_INCOMPLETE)
        for item_id, answer in list(self._answers.items()):
            if answer.response_id != response.id:
                continue
            if completed:
                answer.complete = True
            else:
                self._finish_answer(item_id, answer.text(answer.shown), interrupted=True)

    def _finish_answer(self, item_id: str, text: str, *, interrupted: bool) -> None:
        self._answers.pop(item_id, None)
        text = " ".join(text.split())
        if text and item_id not in self._finished_answers:
            self._lines.append(Line("assistant", text, interrupted))
        self._finished_answers.add(item_id)
