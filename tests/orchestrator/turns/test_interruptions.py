"""Rules 8 to 12: possible, real and false interruptions, backchannels, the guard, what remains of what was said."""

from __future__ import annotations

import pytest

from orchestrator.turns import actions, client, events
from orchestrator.turns.backchannels import is_backchannel
from tests.orchestrator.turns.play import Play, config, typed

LINE = "one two three four five six seven eight nine ten"


def speaking(**settings: object) -> Play:
    """The assistant says ten words, from 1.825 to 5.825, in the second response; a word ends every 0.4 s."""
    settings = {"echo_guard": 0.0, "idle_timeout": None, "clear_duration": 0.3, **settings}
    play = Play(config(**settings))  # type: ignore[arg-type]
    play.model(LINE)
    play.user("count", at=0.3, until=0.7)
    return play


def test_rule_8_speech_holds_output_at_once_and_a_word_makes_it_real() -> None:
    play = speaking()
    play.user("stop that", at=3.0, until=3.6)
    play.until(4)
    assert play.times(client.ResponseCreated) == [1.525]
    assert play.times(client.OutputAudioPaused) == [3.2]
    assert play.times(client.Interrupted) == [3.4]
    assert play.times(client.OutputAudioResumed) == []
    assert play.transcript == ["user: count", "assistant: one two three -"]


def test_rule_8_without_a_word_it_was_false_and_the_assistant_goes_on_from_there() -> None:
    play = speaking()
    play.user("", at=3.0, until=3.4)
    play.until(9)
    assert play.times(client.OutputAudioPaused) == [3.2]
    assert play.times(client.OutputAudioResumed) == [4.0]
    assert not [when for when in play.times(actions.SendAudio) if 3.2 <= when < 4.0]
    assert play.times(client.ResponseDone) == [pytest.approx(6.625)]
    assert play.transcript == ["user: count", f"assistant: {LINE}"]
    assert len(play.told(client.UserStarted)) == 1


def test_rule_8_a_short_noise_does_not_even_pause() -> None:
    play = speaking()
    play.user("", at=3.0, until=3.15)
    play.until(9)
    assert play.times(client.OutputAudioPaused) == []
    assert play.times(client.ResponseDone) == [5.825]


def test_rule_8_the_words_of_an_interruption_become_the_next_turn() -> None:
    play = speaking()
    play.model("Sure.")
    play.user("stop that", at=3.0, until=3.6)
    play.until(7)
    assert play.transcript == ["user: count", "assistant: one two three -", "user: stop that", "assistant: Sure."]
    assert play.told(client.UserStarted)[-1] == (3.4, client.UserStarted("item_3", 3.0))
    assert play.times(client.InputCommitted)[-1] == 4.425


@pytest.mark.parametrize("text", ["uh-huh", "yeah", "Right.", "okay"])
def test_rule_9_a_backchannel_neither_interrupts_nor_becomes_a_turn(text: str) -> None:
    play = speaking()
    play.user(text, at=3.0, until=3.3)
    play.until(9)
    assert play.times(client.Interrupted) == []
    assert play.times(client.OutputAudioResumed) == [4.0]
    assert play.transcript == ["user: count", f"assistant: {LINE}"]
    assert len(play.told(client.InputCommitted)) == 1


def test_rule_9_a_backchannel_without_a_voice_detector_leaves_nothing_behind() -> None:
    play = speaking()
    play.at(3.0, events.WordHeard("w", "Yeah", 2.8))
    play.until(9)
    assert play.times(actions.ResetStt) == [3.8]
    assert play.times(client.ResponseDone) == [5.825]


def short_sound(*read: events.Event) -> Play:
    """0.4 s of speech over the assistant, what is read of it, and then silence."""
    play = speaking(clear_duration=0.7)
    play.at(3.0, events.AudioReceived(3.0), events.SpeechStarted(3.0))
    play.at(3.5, events.AudioReceived(3.5), *read)
    play.at(3.6, events.AudioReceived(3.6), events.SpeechStopped(3.4))
    return play.until(9)


def test_rule_9_what_is_read_of_a_short_sound_at_first_does_not_interrupt() -> None:
    play = short_sound(
        events.InterimHeard("s", "I hope", 3.0, 3.4), events.FinalHeard("s", "Uh huh.", 3.0, 3.4, confidence=0.3)
    )
    assert play.times(client.Interrupted) == []
    assert play.times(client.OutputAudioResumed) == [4.0]
    assert play.transcript == ["user: count", f"assistant: {LINE}"]


@pytest.mark.parametrize(("confidence", "interrupted"), [(0.26, []), (0.5, [3.5]), (None, [3.5])])
def test_rule_9_a_short_sound_interrupts_only_if_it_was_heard_well(
    confidence: float | None, interrupted: list[float]
) -> None:
    play = short_sound(events.FinalHeard("s", "It hurts.", 3.0, 3.4, confidence=confidence))
    assert play.times(client.Interrupted) == interrupted
    assert len(play.told(client.InputCommitted)) == 1 + len(interrupted)


def test_rule_8_speech_that_goes_on_is_no_short_sound() -> None:
    play = speaking(clear_duration=0.7)
    play.at(3.0, events.AudioReceived(3.0), events.SpeechStarted(3.0))
    play.at(3.5, events.AudioReceived(3.5), events.InterimHeard("s", "tell me", 3.0, 3.4))
    play.until(4.5)
    assert play.times(client.OutputAudioPaused) == [3.2]
    assert play.times(client.Interrupted) == [4.0]
    assert play.times(client.OutputAudioResumed) == []


def test_rule_9_when_nobody_speaks_a_yes_is_an_answer() -> None:
    play = Play(config())
    play.user("yeah", at=1.0, until=1.4)
    play.until(4)
    assert play.transcript[0] == "user: yeah"


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Uh-huh.", "en-US", True),
        ("yeah, yeah right", "en", True),
        ("yeah but", "en", False),
        ("d'accord", "fr", True),
        ("Ouais, ah bon ?", "fr-FR", True),
        ("claro que no", "es", False),
        ("ajá, claro", "es", True),
        ("ach so, genau", "de", True),
        ("pois é", "pt-BR", True),
        ("va bene", "it", True),
        ("ouais", "en", False),
        ("ouais", "xx", True),
    ],
)
def test_rule_9_backchannels_are_those_of_the_language(text: str, language: str, expected: bool) -> None:
    assert is_backchannel(text, [language]) is expected


def test_rule_10_in_the_first_response_only_words_interrupt_at_first() -> None:
    play = speaking(echo_guard=3.0)
    play.at(2.0, events.AudioReceived(2.0), events.SpeechStarted(2.0))
    play.until(9)
    assert play.times(client.OutputAudioPaused) == [4.825]
    words = speaking(echo_guard=3.0)
    words.user("stop that", at=3.0, until=3.6)
    words.until(4)
    assert words.times(client.OutputAudioPaused) == []
    assert words.times(client.Interrupted) == [3.4]


def test_rule_11_everything_stops_and_the_message_ends_with_the_last_word_played() -> None:
    play = speaking()
    play.user("stop that", at=3.0, until=3.6)
    play.until(3.5)
    assert play.times(actions.StopSpeech) == [3.4]
    (cut,) = [event for _, event in play.told(client.ItemTruncated)]
    assert cut.transcript == "one two three"
    assert cut.audio_end_offset == pytest.approx(3.2 - 1.825)
    done = play.done[0]
    assert (done.status, done.status_reason) == (
        client.ResponseStatus.CANCELLED,
        client.StatusReason.TURN_DETECTED,
    )


def test_rule_11_the_model_is_told_that_it_was_interrupted() -> None:
    play = speaking()
    play.user("stop that", at=3.0, until=3.6)
    play.until(7)
    messages = play.did(actions.StartAnswer)[-1][1].messages
    assert [(message.text, message.interrupted) for message in messages] == [
        ("count", False),
        ("one two three", True),
        ("stop that", False),
    ]


def test_rule_11_before_the_first_word_no_message_is_left() -> None:
    play = speaking()
    play.user("and dance", at=1.55, until=2.05)
    play.until(2)
    assert play.transcript == ["user: count"]
    assert play.times(client.Interrupted) == [1.9]
    assert play.did(actions.SendAudio) == []


def test_rule_11_reported_playback_decides_what_was_heard() -> None:
    play = Play(config(echo_guard=0.0, reports_playback=True), reports_every=99.0)
    play.model(LINE)
    play.user("count", at=0.3, until=0.7)
    play.user("stop that", at=3.1, until=3.6)
    play.until(3.15)
    item = play.did(actions.SendAudio)[0][1].item_id
    play.at(3.2, events.PlaybackReported(item, 0.5))
    play.until(4)
    assert play.times(client.OutputAudioPaused) == [3.3]
    (interrupted,) = [event for _, event in play.told(client.Interrupted)]
    assert interrupted.heard_offset == pytest.approx(0.6)


def test_rule_12_uninterruptible_speech_goes_on_and_what_was_said_is_answered_after_it() -> None:
    play = speaking(interrupt_response=False)
    play.user("stop that", at=3.0, until=3.6)
    play.until(9)
    assert play.times(client.Interrupted) == []
    assert play.times(client.ResponseDone)[0] == 5.825
    assert play.times(client.ResponseCreated) == [1.525, 5.825]
    assert play.transcript[:3] == ["user: count", f"assistant: {LINE}", "user: stop that"]


@pytest.mark.parametrize("what", [typed("wait"), events.ResponseCancelled(), events.OutputCleared()])
def test_rule_12_typed_text_and_a_cancel_always_stop_it(what: events.Event) -> None:
    play = speaking(interrupt_response=False)
    play.at(3.0, what)
    play.until(3.1)
    assert play.times(client.Interrupted) == [3.0]
    assert play.done[0].status_reason is client.StatusReason.CLIENT_CANCELLED
    assert play.transcript[1] == "assistant: one two three -"


def test_a_cancel_is_safe_when_nothing_goes_on() -> None:
    play = Play(config())
    play.at(1.0, events.ResponseCancelled(), events.OutputCleared())
    play.until(2)
    assert play.told(client.Error) == []


def test_speech_over_the_last_words_is_the_next_turn() -> None:
    play = speaking()
    play.user("and eleven", at=5.75, until=6.5)
    play.until(9)
    assert play.times(client.Interrupted) == []
    assert play.told(client.UserStarted)[-1] == (5.87, client.UserStarted("item_3", 5.75))
    assert play.transcript[-2] == "user: and eleven"
