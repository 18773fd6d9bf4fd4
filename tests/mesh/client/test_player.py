"""The player, on its own clock."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mesh.client.player import Part, Player, Progress

RATE = 1000
ANSWER = Part("item_1")


def tone(count: int, first: int = 1) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.float32)


def player_with(count: int, prebuffer: float = 0.0) -> Player:
    player = Player(RATE, prebuffer)
    player.push(ANSWER, 0, tone(count))
    return player


def test_plays_what_was_pushed_and_then_silence() -> None:
    player = player_with(5)
    assert player.take(3).tolist() == [1, 2, 3]
    assert player.progress == Progress(ANSWER, 3, 2)
    assert player.take(4).tolist() == [4, 5, 0, 0]
    assert player.idle
    assert player.progress == Progress(ANSWER, 5, 0)
    assert (player.clock, player.last_sound) == (7, 5)


def test_a_pause_holds_playback_and_keeps_the_queue() -> None:
    player = player_with(6)
    player.take(2)
    player.pause()
    assert player.take(10).tolist() == [0] * 10
    assert player.progress == Progress(ANSWER, 2, 4)
    player.resume()
    assert player.take(4).tolist() == [3, 4, 5, 6]


def test_an_interruption_drops_the_queue_and_nothing_more_is_heard() -> None:
    player = player_with(6)
    player.take(2)
    player.pause()
    player.take(3)
    assert player.drop() == 4
    assert player.take(3).tolist() == [0, 0, 0]
    assert player.last_sound == 2
    assert player.progress == Progress(ANSWER, 2, 0)


def test_the_recording_keeps_silences_between_but_not_around() -> None:
    player = Player(RATE, 0.0)
    player.take(4)
    player.push(ANSWER, 0, tone(2))
    player.take(5)
    player.push(Part("item_2"), 0, tone(2, 8))
    player.take(9)
    assert player.recording().tolist() == [1, 2, 0, 0, 0, 8, 9]


def test_a_late_packet_is_a_gap_in_the_recording_and_not_in_the_parts_clock() -> None:
    player = player_with(2)
    player.take(3)
    player.push(ANSWER, 2, tone(2, 3))
    player.take(2)
    assert player.recording().tolist() == [1, 2, 0, 3, 4]
    assert player.progress == Progress(ANSWER, 4, 0)


def test_a_jump_forward_is_silence_and_an_overlap_is_cut() -> None:
    player = player_with(2)
    player.push(ANSWER, 4, tone(2, 5))
    player.push(ANSWER, 5, tone(3, 6))
    assert player.take(8).tolist() == [1, 2, 0, 0, 5, 6, 7, 8]


def test_playback_begins_with_a_small_reserve_unless_the_part_is_shorter() -> None:
    player = player_with(2, prebuffer=0.004)
    assert player.take(2).tolist() == [0, 0]
    player.push(ANSWER, 2, tone(2, 3))
    assert player.take(1).tolist() == [1]

    short = player_with(2, prebuffer=0.004)
    short.end(ANSWER)
    assert short.take(2).tolist() == [1, 2]


def test_says_when_each_part_began_to_sound() -> None:
    player = Player(RATE, 0.0)
    player.take(7)
    player.push(ANSWER, 0, tone(3))
    assert player.started_at(ANSWER) is None
    player.take(1)
    assert player.started_at(ANSWER) == 7


@given(st.lists(st.tuples(st.sampled_from(["push", "take", "pause", "resume", "drop"]), st.integers(1, 50))))
def test_every_sample_is_played_once_in_order_or_dropped(steps: list[tuple[str, int]]) -> None:
    player = Player(RATE, 0.01)
    pushed = played = dropped = 0
    heard: list[float] = []
    for step, size in steps:
        match step:
            case "push":
                player.push(ANSWER, pushed, tone(size, pushed + 1))
                pushed += size
            case "take":
                out = player.take(size)
                assert len(out) == size
                heard += [sample for sample in out.tolist() if sample]
            case "pause":
                player.pause()
            case "resume":
                player.resume()
            case "drop":
                dropped += player.drop()
    played = len(heard)
    assert heard == sorted(set(heard))
    assert played + dropped + player.queued == pushed
    assert len([sample for sample in player.recording().tolist() if sample]) == played
