"""Keeps a conversation within a model's context: whole turns go, oldest first, never the system prompt. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from orchestrator.turns.items import Message, Role

MESSAGE_OVERHEAD_TOKENS = 8
"""Tokens that a chat template puts around a message; templates take 3 to 7."""
_LATIN = re.compile("[A-Za-zªµºÀ-ÖØ-öø-\u024f ]+")


def estimate_tokens(text: str) -> int:
    """No fewer tokens than nearly every tokenizer makes of `text`: an answer is refused if this is too low.

    Latin text takes 3.5 to 5 characters a token; marks and digits may take one each, other scripts more than that.
    """
    letters = sum(map(len, _LATIN.findall(text)))
    foreign = 0 if text.isascii() else sum(character >= "\u0250" for character in text)
    return math.ceil(letters / 3.3 + (len(text) - letters - foreign) + foreign * 1.5)


def message_tokens(message: Message, count: Callable[[str], int] = estimate_tokens) -> int:
    """Tokens of one message, its calls and the template around it included."""
    calls = sum(count(call.name) + count(call.arguments_json) for call in message.tool_calls)
    return count(message.text) + calls + MESSAGE_OVERHEAD_TOKENS


def trim(
    messages: Sequence[Message],
    context_tokens: int,
    reserved_tokens: int,
    count: Callable[[str], int] = estimate_tokens,
) -> tuple[Message, ...]:
    """Those of `messages` that fit into `context_tokens` with `reserved_tokens` left for tools and the answer.

    System messages all stay. Of the rest the newest turns stay, each whole: a user's message and what follows it, calls
    and results included. The newest stays even if it alone does not fit: there must be something to answer.

    Args:
        messages: oldest first.
        context_tokens: the model's context. 0: unknown, nothing goes.
        reserved_tokens: kept free of it.
        count: tokens of a text.
    """
    if context_tokens <= 0:
        return tuple(messages)
    sizes = [message_tokens(message, count) for message in messages]
    kept = {index for index, message in enumerate(messages) if message.role is Role.SYSTEM}
    room = context_tokens - reserved_tokens - sum(sizes[index] for index in kept)
    turns = _turns(messages)
    for place, turn in enumerate(reversed(turns)):
        room -= sum(sizes[index] for index in turn)
        if room < 0 and place > 0:
            break
        kept.update(turn)
    return tuple(message for index, message in enumerate(messages) if index in kept)


def _turns(messages: Sequence[Message]) -> list[list[int]]:
    """Places of each turn's messages; what the assistant says before the user's first words is a turn too."""
    turns: list[list[int]] = []
    for index, message in enumerate(messages):
        if message.role is Role.SYSTEM:
            continue
        if message.role is Role.USER or not turns:
            turns.append([])
        turns[-1].append(index)
    return turns
