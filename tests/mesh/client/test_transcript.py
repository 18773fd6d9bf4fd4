"""The transcript: what was said and heard, and nothing else."""

from mesh.client.player import Part, Progress
from mesh.client.transcript import Line, Transcript
from tests.mesh.client import events
from unmute.conversation.v1 import conversation_pb2 as pb

RATE = 1000


def heard(seconds: float) -> Progress:
    return Progress(Part("answer_1"), round(seconds * RATE), 0)


def answering() -> Transcript:
    transcript = Transcript(RATE)
    for text, start in (("The ", 0.0), ("sky ", 0.3), ("is ", 0.5), ("blue.", 0.8)):
        transcript.apply(events.word(text, start, start + 0.2))
    return transcript


def test_interim_text_is_open_and_the_final_text_is_a_line() -> None:
    transcript = Transcript(RATE)
    transcript.apply(events.interim("why is this"))
    assert transcript.open_user == "why is this"
    assert transcript.take_lines() == []
    transcript.apply(events.transcript(" Why is the sky blue? "))
    assert transcript.open_user == ""
    assert transcript.take_lines() == [Line("user", "Why is the sky blue?")]
    transcript.apply(events.interim("late"))
    assert transcript.open_user == ""


def test_deltas_grow_the_open_text_and_replace_the_interim() -> None:
    transcript = Transcript(RATE)
    transcript.apply(events.interim("why is"))
    timed = pb.InputTranscriptDelta(item_id="user_1")
    timed.text.text = "Why is"
    transcript.apply(pb.ConverseResponse(input_transcript_delta=timed))
    transcript.apply(events.interim("the sky"))
    assert transcript.open_user == "Why is the sky"


def test_words_appear_when_their_sound_begins() -> None:
    transcript = answering()
    transcript.played(heard(0.0), False)
    assert transcript.open_assistant == ""
    transcript.played(heard(0.1), False)
    assert transcript.open_assistant == "The"
    transcript.played(heard(0.6), False)
    assert transcript.open_assistant == "The sky is"


def test_an_answer_is_a_line_once_it_was_played_out() -> None:
    transcript = answering()
    transcript.played(heard(1.0), True)
    assert transcript.take_lines() == []
    transcript.apply(events.response_done())
    transcript.played(heard(1.0), False)
    assert transcript.take_lines() == []
    transcript.played(heard(1.0), True)
    assert transcript.take_lines() == [Line("assistant", "The sky is blue.")]
    assert transcript.open_assistant == ""


def test_an_interrupted_answer_ends_at_what_the_server_says_was_heard() -> None:
    transcript = answering()
    transcript.played(heard(0.6), False)
    transcript.apply(events.truncated("The sky"))
    transcript.apply(events.word("blue.", 0.8, 1.0))
    transcript.apply(events.response_done(status=pb.RESPONSE_STATUS_CANCELLED))
    transcript.played(heard(0.6), True)
    assert transcript.take_lines() == [Line("assistant", "The sky", interrupted=True)]


def test_an_answer_interrupted_before_its_first_word_leaves_no_line() -> None:
    transcript = answering()
    transcript.apply(events.truncated(""))
    transcript.close()
    assert transcript.take_lines() == []


def test_a_failed_answer_keeps_the_words_that_were_heard() -> None:
    transcript = answering()
    transcript.played(heard(0.6), False)
    transcript.apply(events.response_done(status=pb.RESPONSE_STATUS_FAILED))
    assert transcript.take_lines() == [Line("assistant", "The sky is", interrupted=True)]


def test_what_is_open_at_the_end_becomes_lines() -> None:
    transcript = answering()
    transcript.apply(events.interim("but wait"))
    transcript.played(heard(0.35), False)
    transcript.close()
    assert transcript.take_lines() == [Line("user", "but wait"), Line("assistant", "The sky", interrupted=True)]
