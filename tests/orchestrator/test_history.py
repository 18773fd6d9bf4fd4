from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.prompts.history import MESSAGE_OVERHEAD_TOKENS, estimate_tokens, message_tokens, trim
from orchestrator.turns.items import Message, Role

SYSTEM = Message(Role.SYSTEM, "You are a test.")


def turn(number: int) -> list[Message]:
    return [Message(Role.USER, f"question {number}"), Message(Role.ASSISTANT, f"answer {number}")]


def test_whole_turns_go_oldest_first() -> None:
    messages = [SYSTEM, *turn(1), *turn(2), *turn(3), Message(Role.USER, "now")]
    size = sum(map(message_tokens, messages))
    assert trim(messages, size + 50, 50) == tuple(messages)
    assert trim(messages, size + 49, 50) == (SYSTEM, *turn(2), *turn(3), messages[-1])
    assert trim(messages, 1, 50) == (SYSTEM, messages[-1])
    assert trim(messages, 0, 50) == tuple(messages)


def test_an_engines_own_count_is_taken() -> None:
    messages = [SYSTEM, *turn(1), *turn(2)]
    assert trim(messages, 5 * (10 + MESSAGE_OVERHEAD_TOKENS), 0, lambda _: 10) == tuple(messages)
    assert trim(messages, 5 * (10 + MESSAGE_OVERHEAD_TOKENS) - 1, 0, lambda _: 10) == (SYSTEM, *turn(2))


def test_estimates_are_not_too_low() -> None:
    # Counts of common tokenizers: about 9, 7 and 12.
    assert estimate_tokens("The quick brown fox jumps over the lazy dog") >= 9
    assert estimate_tokens("1234567") >= 7
    assert estimate_tokens("こんにちは世界") >= 7
    assert estimate_tokens("") == 0


ROLES = st.sampled_from([Role.USER, Role.ASSISTANT, Role.TOOL])


@given(st.lists(st.builds(Message, ROLES, st.text(max_size=40)), max_size=12), st.integers(1, 400))
def test_what_is_kept_is_an_end_of_the_conversation(said: list[Message], context: int) -> None:
    kept = trim([SYSTEM, *said], context, 10)
    assert kept[0] == SYSTEM
    rest = kept[1:]
    assert rest == tuple(said[len(said) - len(rest) :])
    if len(rest) < len(said):
        assert not rest or rest[0].role is Role.USER
