"""When a row may step, and where its words are, with moshi's own state machine and tokens made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from moshi.models.tts import Entry, StateMachine, TokenIds

from mesh.batching import Demand
from tests.kyutai.tts_rig import Rig, load_tiny, samples, words
from tts_service.engine import Audio, Event, TextSpoken
from tts_service.engines.kyutai.row import FRAME, Row, Traits
from tts_service.engines.kyutai.script import ScriptReader

NEW_WORD, PAD = 0, 3
LAG = 6


def make_row(*, ahead: int = 2, speakers: int = 1, multi_speaker: bool = True) -> Row:
    machine = StateMachine(TokenIds(1000), second_stream_ahead=ahead, max_padding=8, initial_padding=2)
    traits = Traits(
        machine=machine,
        make_entry=lambda tokens, padding: Entry(tokens=tokens, text="", padding=padding),
        encode=lambda word: [10 + ord(char) % 50 for char in word],
        delay=4,
        acoustic_delay=2,
        ahead=ahead,
        final_padding=4,
        multi_speaker=multi_speaker,
    )
    return Row(traits, speakers=speakers)


def push(row: Row, text: str) -> None:
    row.add(ScriptReader().push(text + " "))


def step(row: Row, token: int = NEW_WORD) -> tuple[int, list[Event]]:
    """One step in which the model wants `token`."""
    assert row.runnable
    given = row.feed(token)
    return given, row.take(np.zeros(FRAME, np.float32) if row.sounding else None)


def run(row: Row, token: int = NEW_WORD) -> list[Event]:
    events: list[Event] = []
    while row.runnable:
        events += step(row, token)[1]
        row.taken(row.waiting)
    return events + (row.rest() if row.ended else [])


def test_it_waits_for_the_words_that_it_must_know() -> None:
    row = make_row()
    assert row.demand is Demand.IDLE
    push(row, "one two")
    assert not row.runnable
    push(row, "three")
    assert row.runnable
    assert row.demand is Demand.URGENT
    run(row)
    assert not row.runnable
    assert not row.ended


def test_without_lookahead_one_word_is_enough() -> None:
    row = make_row(ahead=0)
    push(row, "one")
    assert row.runnable


def test_a_break_may_be_taken_at_once() -> None:
    row = make_row()
    row.add(ScriptReader().push('<break time="1s"/>'))
    assert row.runnable


def test_nothing_to_say_is_over_at_once() -> None:
    row = make_row()
    push(row, "... \u2014")
    assert not row.runnable
    row.finish()
    assert row.ended
    assert [event.text.split() for event in row.rest() if isinstance(event, TextSpoken)] == [["...", "\u2014"]]


def test_words_are_where_they_were_taken() -> None:
    row = make_row()
    push(row, "on to me")
    row.finish()
    events = run(row)
    spoken = [event for event in events if isinstance(event, TextSpoken)]
    assert [word.text for word in spoken] == ["on", " to", " me"]
    # Two steps of padding first; then each word takes 2 tokens and 1 of padding, the first a mark of the speaker too.
    assert [round(word.start * 12.5) for word in spoken] == [2, 6, 9]
    assert [word.end for word in spoken[:2]] == [word.start for word in spoken[1:]]
    before = 0
    for event in events:
        if isinstance(event, Audio):
            before += 1
        else:
            assert round(event.start * 12.5) >= before
    assert spoken[-1].end <= before * 0.08 + 1e-9
    # The end is asked for when the last word is done: 4 steps of padding follow.
    assert before == 12 + 4


def test_a_flush_is_heard_and_then_waits() -> None:
    row = make_row()
    push(row, "on to")
    assert not row.runnable
    row.flush()
    events = run(row)
    assert [event.text for event in events if isinstance(event, TextSpoken)] == ["on", " to"]
    frames = sum(isinstance(event, Audio) for event in events)
    assert frames * 0.08 > max(event.end for event in events if isinstance(event, TextSpoken)) - 1e-9
    assert not row.ended
    push(row, "us")
    assert not row.runnable
    row.finish()
    assert "us" in "".join(event.text for event in run(row) if isinstance(event, TextSpoken))
    assert row.ended


def test_after_a_flush_nothing_more_is_the_end() -> None:
    row = make_row()
    push(row, "on")
    row.flush()
    run(row)
    row.finish()
    assert row.ended
    assert not row.runnable


def test_text_after_a_flush_needs_its_context_again() -> None:
    row = make_row()
    push(row, "on")
    row.flush()
    assert row.runnable
    push(row, "to")
    assert not row.runnable


def test_speakers_take_turns_at_new_lines() -> None:
    row = make_row(speakers=2)
    row.add([*(reader := ScriptReader()).push("on\nto\n\nme us"), *reader.flush()])
    row.finish()
    marks = [entry.tokens[0] for entry in row._state.entries]
    assert marks[0] == 1
    assert marks[1] == 2
    assert marks[2] == 1
    assert marks[3] > 3


def test_one_speaker_is_marked_once() -> None:
    row = make_row()
    row.add([*(reader := ScriptReader()).push("on\nto\n\nme us"), *reader.flush()])
    assert [entry.tokens[0] < 4 for entry in row._state.entries] == [True, False, False, False]


def test_the_second_stream_looks_two_words_ahead() -> None:
    row = make_row(multi_speaker=False)
    push(row, "a b c d")
    given = [step(row)[0] for _ in range(4)]
    card = 1000
    token = {char: 10 + ord(char) % 50 for char in "abcd"}
    # Padding, padding, then the mark of a new word with its token, then the token of the word after the next.
    assert given[:2] == [PAD, PAD]
    assert given[2] == (NEW_WORD + 1) * card + token["a"]
    assert given[3] // card - 1 == token["c"]


def test_two_speakers_share_a_voice_of_two_files(tts_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    folder.mkdir()
    for path in (tts_checkpoint / "voices").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "voices.yaml").write_text(
        "pair: {name: Two, files: [alice.wav, bob.wav], licence: CC0-1.0, cfg: 3, languages: [en]}\nbob.wav:\n"
    )
    loaded = load_tiny(tts_checkpoint, 1, voices=str(folder))
    assert [voice.voice.id for voice in loaded.voices] == ["pair", "bob.wav"]
    assert loaded.voices[0].voice.licence == "CC0-1.0"
    rig = Rig(loaded, 1)
    voice = loaded.voices[0]
    conditions = loaded.conditions.make(voice, loaded.book.embeddings(voice))
    assert conditions.text["cfg"] == "3.0"
    mask = conditions.tensor["speaker_wavs"].mask
    assert mask.sum() == 10
    from tts_service.engines.kyutai.program import Admission

    lease = rig.table.acquire()
    assert lease is not None
    rig.said[lease] = []
    rig.program.admit(lease, Admission(conditions, 2, 7))
    row = rig.row(lease)
    row.add([*(reader := ScriptReader()).push("hello\nworld"), *reader.flush()])
    row.finish()
    rig.run()
    assert "".join(word.text for word in words(rig.said[lease])) == "hello\nworld"
    assert len(samples(rig.said[lease]))
