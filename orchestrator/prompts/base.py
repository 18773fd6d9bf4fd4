"""What every conversation is told, and the pieces that prompt builders share. Pure.

A prompt begins with the same words for every character and session, so that a language model that caches prefixes has
read them before. Models with a small context get the short one: small models follow few rules, and reading costs time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.turns.items import SILENCE_MARKER, Message, Role

COMPACT_CONTEXT_TOKENS = 8192
"""Models with no more context than this get the compact prompt."""

GREETING = {"en": "Hello.", "fr": "Bonjour.", "de": "Hallo.", "es": "Hola."}
"""The user message before the assistant's first words: some models refuse a conversation without one."""

LANGUAGES = {
    "ar": "Arabic",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "zh": "Chinese",
}

_COMPACT = (
    f'You are a voice assistant. Answer in one short sentence. If the user says "{SILENCE_MARKER}", ask a question.'
)

_COMPACT_EXAMPLES = {
    "en": (
        ("Nice to meet you.", "Nice to meet you too! What would you like to talk about?"),
        ("How do birds fly?", "Birds fly by flapping their wings, which lifts them into the air."),
        ("I had a long day.", "That sounds tiring. What happened?"),
        ("What is the sun?", "The sun is a star in the middle of our solar system."),
    ),
    "fr": (
        ("Enchanté.", "Enchanté ! De quoi voulez-vous parler ?"),
        ("Comment volent les oiseaux ?", "Les oiseaux volent en battant des ailes, qui les portent dans l'air."),
        ("J'ai eu une longue journée.", "Cela a dû être fatigant. Que s'est-il passé ?"),
        ("Qu'est-ce que le soleil ?", "Le soleil est une étoile au milieu de notre système solaire."),
    ),
}

_FULL = f"""\
You are in a spoken conversation: everything you write is read aloud by a voice, as it is.

Speak as people do. Answer in one to three short sentences unless you are asked for more. No lists, headings, tables, \
code, links, emoji or stage directions; say numbers, units and names so that they can be spoken. Do not begin with the \
same words each time, do not repeat the question, and do not offer help after every answer.

What the user says comes from speech recognition and has mistakes: guess the word that was meant from its sound and \
from what was said before, and ask when you cannot. Do not mention the mistakes.

A message "{SILENCE_MARKER}" means that the user said nothing for a while. Fill the silence: go on with the subject \
or ask something new. After three silences in a row, or when the user wants to leave, say goodbye and end with "Bye!". \
End with "Bye!" only to end the conversation.

If one of your messages was cut short, the user interrupted you: they heard no more than it says. Go on from what they \
say, and do not repeat yourself."""


@dataclass(frozen=True, slots=True)
class Headline:
    """One piece of news."""

    title: str
    summary: str = ""


@dataclass(frozen=True, slots=True)
class PromptContext:
    """What a prompt builder may use, fixed when a session starts."""

    compact: bool = False
    """The model is small: say only what matters most."""
    language_code: str = ""
    """Language the assistant begins in, BCP-47. Empty: that of the user."""
    headlines: tuple[Headline, ...] = ()
    """News, for `news`."""
    news_problem: str = ""
    """Why there is no news, in words that can be said."""
    facts: tuple[str, ...] = field(default=())
    """What is known of the system itself, such as the models in use, for `explanation`."""


class PromptBuilder(Protocol):
    """Instructions of one type, as voices.yaml gives them."""

    def build(self, draw: random.Random, context: PromptContext) -> str:
        """The character's part of the system prompt; random parts come from `draw` alone."""
        ...


def system_prompt(character: str, context: PromptContext) -> str:
    """The whole system prompt: the part all conversations share, the language rule, then the character's own."""
    parts = [_COMPACT if context.compact else _FULL]
    if rule := _language_rule(context):
        parts.append(rule)
    parts.append(character.strip())
    return (" " if context.compact else "\n\n").join(part for part in parts if part)


def examples(compact: bool, language_code: str) -> tuple[Message, ...]:
    """Turns put before a conversation: a small model learns length and tone from these, not from rules.

    Empty for larger models, which may take them for something that was said.
    """
    pairs = _COMPACT_EXAMPLES.get(language_code.partition("-")[0].lower() or "en", ()) if compact else ()
    return tuple(
        Message(role, text) for pair in pairs for role, text in zip((Role.USER, Role.ASSISTANT), pair, strict=True)
    )


def greeting(language_code: str) -> str:
    """What stands for the user's first words when the assistant speaks first."""
    return GREETING.get(language_code.partition("-")[0].lower(), GREETING["en"])


def language_name(language_code: str) -> str:
    """English name of a language; its code if it has none here."""
    return LANGUAGES.get(language_code.partition("-")[0].lower(), language_code)


def _language_rule(context: PromptContext) -> str:
    name = language_name(context.language_code)
    if context.compact:
        return f"Speak {name}." if name and name != "English" else ""
    if not name:
        return "Speak the language the user speaks."
    return f"Speak {name}; if the user speaks another language that you know well, answer in that one."
