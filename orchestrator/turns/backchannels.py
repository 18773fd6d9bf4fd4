"""Words that show that one listens: they neither interrupt nor ask for an answer while the assistant speaks."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_PHRASES: dict[str, str] = {
    "en": (
        "uh huh, uhhuh, mm hmm, mhm, mmhmm, mm, mmm, hm, hmm, uh, um, ah, oh, aha, yeah, yep, yup, yes, "
        "right, okay, ok, sure, i see, got it, wow, cool, nice, great, really, of course, exactly, true, huh, "
        "alright, all right"
    ),
    "fr": (
        "ouais, oui, ok, okay, d accord, daccord, mm, mmm, mhm, hm, hmm, hum, ah, ah bon, ah oui, euh, bien, "
        "bien sûr, exactement, voilà, je vois, c est vrai, c est ça, super, tout à fait"
    ),
    "es": (
        "sí, si, ajá, aja, ya, vale, claro, ok, okay, mm, mmm, mhm, hm, hmm, ah, eh, bueno, bien, de acuerdo, "
        "exacto, entiendo, ya veo, vaya, por supuesto, verdad"
    ),
    "de": (
        "ja, jaja, mhm, mm, mmm, hm, hmm, aha, ah, äh, ähm, okay, ok, genau, stimmt, klar, gut, achso, ach "
        "so, verstehe, ich verstehe, richtig, na klar, natürlich, jo, super"
    ),
    "pt": (
        "sim, aham, uhum, mm, mmm, mhm, hm, hmm, ah, é, pois, pois é, certo, claro, ok, okay, tá, está bem, "
        "tá bom, entendi, isso, exato, verdade, com certeza, beleza"
    ),
    "it": (
        "sì, si, già, ok, okay, va bene, certo, esatto, giusto, mm, mmm, mhm, hm, hmm, ah, eh, capisco, ho "
        "capito, d accordo, bene, vero, davvero, ecco, infatti"
    ),
}
_KNOWN: dict[str, frozenset[tuple[str, ...]]] = {
    language: frozenset(tuple(phrase.split()) for phrase in phrases.split(", "))
    for language, phrases in _PHRASES.items()
}
_EVERY: frozenset[tuple[str, ...]] = frozenset().union(*_KNOWN.values())
_LONGEST = max(len(phrase) for phrase in _EVERY)

LANGUAGES: tuple[str, ...] = tuple(_PHRASES)
"""Languages whose backchannels are known."""


def words_of(text: str) -> tuple[str, ...]:
    """The words, without case and punctuation; a hyphen or apostrophe parts words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return tuple("".join(c if c.isalnum() else " " for c in folded).split())


def normalise(text: str) -> str:
    """The text without case, punctuation and white space: two that agree in this say the same."""
    return "".join(words_of(text))


def is_backchannel(text: str, language_codes: Sequence[str]) -> bool:
    """Whether the text is nothing but backchannels (or nothing at all) in one of the languages (none: in any)."""
    known = [_KNOWN[p] for code in language_codes if (p := code.split("-")[0].lower()) in _KNOWN]
    phrases = frozenset().union(*known) if known else _EVERY
    words = words_of(text)
    at = 0
    while at < len(words):
        step = next((n for n in range(_LONGEST, 0, -1) if words[at : at + n] in phrases), 0)
        if not step:
            return False
        at += step
    return True
