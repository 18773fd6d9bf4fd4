"""Licences of the voices that Kyutai publishes, by where they lie in its repository of voices."""

from __future__ import annotations

UNKNOWN = "NOASSERTION"
"""What SPDX says where nothing is known, as for a folder of one's own."""

_FOLDERS = {
    "alba-mackenna": "CC-BY-4.0",
    "cml-tts": "CC-BY-4.0",
    "ears": "CC-BY-NC-4.0",
    "expresso": "CC-BY-NC-4.0",
    "unmute-prod-website": "CC0-1.0",
    "vctk": "CC-BY-4.0",
    "voice-donations": "CC0-1.0",
    "voice-zero": "CC0-1.0",
}
_FILES = {
    "unmute-prod-website/degaulle-2": UNKNOWN,
    "unmute-prod-website/ex04_narration_longform_00001": "CC-BY-NC-4.0",
    "unmute-prod-website/p329_022": "CC-BY-4.0",
}


def licence_of(path: str) -> str:
    """Returns the licence, an SPDX expression, of a voice by its path in kyutai/tts-voices; its README says so."""
    stem = path.partition(".")[0].removesuffix("_enhanced")
    return _FILES.get(stem) or _FOLDERS.get(path.partition("/")[0], UNKNOWN)
