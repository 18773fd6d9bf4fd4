"""The voices of Pocket TTS: those that come with it, or those of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh.errors import MeshError
from tts_service.engine import Voice
from tts_service.engines.voice_licences import UNKNOWN, licence_of

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
SUFFIXES = (".safetensors", *AUDIO)

_ENGLISH = {
    "alba": "alba-mackenna/casual.wav",
    "anna": "vctk/p228_023_enhanced.wav",
    "azelma": "vctk/p303_023_enhanced.wav",
    "bill_boerst": "voice-zero/bill_boerst.wav",
    "caro_davy": "voice-zero/caro_davy.wav",
    "charles": "vctk/p254_023_enhanced.wav",
    "cosette": "expresso/ex04-ex02_confused_001_channel1_499s.wav",
    "eponine": "vctk/p262_023_enhanced.wav",
    "eve": "vctk/p361_023_enhanced.wav",
    "fantine": "vctk/p244_023_enhanced.wav",
    "george": "vctk/p315_023_enhanced.wav",
    "jane": "vctk/p339_023_enhanced.wav",
    "javert": "voice-donations/Butter.wav",
    "jean": "ears/p010/freeform_speech_01_enhanced.wav",
    "marius": "voice-donations/Selfie.wav",
    "mary": "vctk/p333_023_enhanced.wav",
    "michael": "vctk/p360_023_enhanced.wav",
    "paul": "vctk/p259_023_enhanced.wav",
    "peter_yearsley": "voice-zero/peter_yearsley.wav",
    "stuart_bell": "voice-zero/stuart_bell.wav",
    "vera": "vctk/p229_023_enhanced.wav",
}
_NATIVE = {
    "french": ("estelle", "unmute-prod-website/developpeuse-3.wav"),
    "german": ("juergen", ""),
    "italian": ("giovanni", ""),
    "portuguese": ("rafael", ""),
    "spanish": ("lola", ""),
    "dutch": ("daan", ""),
}
"""The voice of each other language, and where it lies in kyutai/tts-voices, if it does."""

LANGUAGES = {
    "english": "en",
    "french": "fr",
    "german": "de",
    "italian": "it",
    "portuguese": "pt",
    "spanish": "es",
    "dutch": "nl",
}
"""The language of a model, by the beginning of its name."""


@dataclass(frozen=True, slots=True)
class PocketVoice:
    """A voice and how the package is told of it."""

    voice: Voice
    source: str
    """A name that the package knows, or the path of a file."""
    cloned: bool
    """It is made from audio, for which the weights must be those that can clone."""


def included_voices(model: str, language_code: str) -> list[PocketVoice]:
    """Returns the voices that come with a released model, the default first.

    Args:
        model: name of the model, as "english" or "french_24l".
        language_code: what it speaks, BCP-47.
    """
    sources = dict(_ENGLISH)
    native = _NATIVE.get(model.partition("_")[0])
    if native is not None:
        sources = dict([native]) | sources
    return [
        PocketVoice(
            Voice(
                id=name,
                display_name=name.replace("_", " ").title(),
                language_codes=(language_code,),
                attribution=f"kyutai/tts-voices, {path}" if path else "kyutai/pocket-tts",
                licence=licence_of(path) if path else UNKNOWN,
            ),
            source=name,
            cloned=False,
        )
        for name, path in sources.items()
    ]


def folder_voices(folder: Path, language_code: str) -> list[PocketVoice]:
    """Returns the voices of a folder, by name; a voice's id is its path there without the suffix.

    Raises:
        MeshError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise MeshError(f"--voices: there is no folder {str(folder)!r}")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            name = path.relative_to(folder).with_suffix("").as_posix()
            # An exported state is as good as its audio, and loads at once.
            if name not in found or path.suffix == ".safetensors":
                found[name] = path
    if not found:
        raise MeshError(f"--voices: no {', '.join(SUFFIXES)} files in {str(folder)!r}")
    return [_folder_voice(name, path, language_code) for name, path in found.items()]


def _folder_voice(name: str, path: Path, language_code: str) -> PocketVoice:
    voice = Voice(
        id=name,
        display_name=name.rpartition("/")[2].replace("_", " "),
        language_codes=(language_code,),
        attribution=f"{path.name}, given by whoever runs this server",
        licence=licence_of(name),
    )
    return PocketVoice(voice, source=str(path.resolve()), cloned=path.suffix.lower() in AUDIO)


def with_default(voices: Sequence[PocketVoice], default: str) -> list[PocketVoice]:
    """Returns the voices with the one of id `default` in front; empty: as they are.

    Raises:
        MeshError: there is no such voice.
    """
    if not default:
        return list(voices)
    chosen = [voice for voice in voices if voice.voice.id == default]
    if not chosen:
        known = ", ".join(voice.voice.id for voice in voices[:20])
        raise MeshError(f"--voice: no voice {default!r}; there are {known}{', ...' if len(voices) > 20 else ''}")
    return chosen + [voice for voice in voices if voice.voice.id != default]
