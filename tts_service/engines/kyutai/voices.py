"""Voices of Kyutai's text to speech: embeddings in a folder, or in a repository of the hub."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import FailedPreconditionError, MeshError, NotFoundError
from mesh.kyutai import Hub
from tts_service.engine import Voice
from tts_service.engines.voice_licences import UNKNOWN, licence_of

REPOSITORY = "kyutai/tts-voices"
PREFERRED = ("unmute-prod-website/default_voice.wav", "alba-mackenna/casual.wav")
"""The default voice, if it is there: the first of these that is."""
CATALOGUE = "voices.yaml"
_KEPT = 256


@dataclass(frozen=True, slots=True)
class KyutaiVoice:
    """A voice and where it lies."""

    voice: Voice
    files: tuple[str, ...]
    """Embeddings, one for each speaker, relative to the folder or repository."""
    cfg: float | None = None
    """How closely to follow it; None: as the engine is told."""


class VoiceBook:
    """The voices of one folder or repository; reads files, so it is not for the event loop."""

    def __init__(self, source: str, suffix: str, languages: Sequence[str], hub: Hub | None = None) -> None:
        """Names a source, without looking.

        Args:
            source: a folder, or the id of a repository of the hub.
            suffix: how the names of embeddings for this checkpoint end.
            languages: what the model speaks, BCP-47.
            hub: where a repository is.
        """
        self._folder = Path(source).expanduser() if Path(source).expanduser().is_dir() else None
        self._source = source
        self._suffix = suffix
        self._languages = tuple(languages)
        self._hub = hub or Hub()
        self._loaded: OrderedDict[str, Any] = OrderedDict()

    def find(self, default: str = "") -> list[KyutaiVoice]:
        """Returns the voices, the default first.

        Args:
            default: id of the default voice; empty: one that is known to be free for all uses, or the first.

        Raises:
            NotFoundError: there is no such source or default voice.
            FailedPreconditionError: there is no voice for this checkpoint, or the catalogue is wrong.
            UnavailableError: the hub cannot be reached.
        """
        voices = self._catalogue() or [self._plain(name) for name in self._names() if name.endswith(self._suffix)]
        if not voices:
            raise FailedPreconditionError(
                f"--voices: {self._source} has no files *{self._suffix}, as the voices of this checkpoint are called",
                reason="NO_VOICES",
            )
        wanted = (default,) if default else PREFERRED
        first = next((voice for name in wanted for voice in voices if voice.voice.id == name), None)
        if first is None and default:
            known = ", ".join(voice.voice.id for voice in voices[:20])
            raise NotFoundError("--voice", f"no voice {default!r} in {self._source}; there are {known}, ...")
        first = first or voices[0]
        return [first, *(voice for voice in voices if voice is not first)]

    def embeddings(self, voice: KyutaiVoice) -> list[Any]:
        """Returns the embedding of each speaker of a voice, a tensor of shape (1, channels, frames).

        Raises:
            MeshError: a file is missing or is no embedding.
        """
        return [self._embedding(name) for name in voice.files]

    def _embedding(self, name: str) -> Any:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        known = self._loaded.get(name)
        if known is not None:
            self._loaded.move_to_end(name)
            return known
        path = self._path(name)
        try:
            tensor = load_file(path, device="cpu")["speaker_wavs"]
        except (OSError, SafetensorError, KeyError) as error:
            raise FailedPreconditionError(f"the voice {path} is no embedding: {error}", reason="WRONG_VOICE") from error
        if tensor.dim() != 3 or tensor.shape[0] != 1 or not torch.isfinite(tensor).all():
            raise FailedPreconditionError(
                f"the voice {path} has the shape {tuple(tensor.shape)}, and (1, channels, frames) is needed",
                reason="WRONG_VOICE",
            )
        self._loaded[name] = tensor
        if len(self._loaded) > _KEPT:
            self._loaded.popitem(last=False)
        return tensor

    def _path(self, name: str) -> Path:
        if self._folder is None:
            return self._hub.fetch(self._source, name)
        path = self._folder / name
        if not path.is_file():
            raise NotFoundError("config.voice_id", f"the voice file {path} is missing")
        return path

    def _names(self) -> list[str]:
        if self._folder is None:
            return sorted(self._hub.files(self._source))
        return sorted(path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file())

    def _plain(self, name: str) -> KyutaiVoice:
        identifier = name.removesuffix(self._suffix)
        languages = self._languages
        if "/fr/" in identifier and "fr" in languages:
            languages = ("fr", *(code for code in languages if code != "fr"))
        voice = Voice(
            id=identifier,
            display_name=identifier.rpartition("/")[2].partition(".")[0].replace("_", " "),
            language_codes=languages,
            attribution=f"{self._source if self._folder is None else self._folder.name}, {name}",
            licence=licence_of(identifier) if self._source == REPOSITORY else UNKNOWN,
        )
        return KyutaiVoice(voice, (name,))

    def _catalogue(self) -> list[KyutaiVoice]:
        """Returns the voices that the folder's own list names; empty if it has none."""
        path = self._folder / CATALOGUE if self._folder is not None else None
        if path is None or not path.is_file():
            return []
        import yaml

        try:
            entries = yaml.safe_load(path.read_text(encoding="utf-8"))
            return [self._listed(str(name), entry or {}) for name, entry in entries.items()]
        except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
            raise FailedPreconditionError(f"{path} is no list of voices: {error}", reason="WRONG_VOICES") from error

    def _listed(self, identifier: str, entry: dict[str, Any]) -> KyutaiVoice:
        unknown = set(entry) - {"files", "name", "languages", "attribution", "licence", "cfg"}
        if unknown:
            raise ValueError(f"{identifier}: unknown {', '.join(sorted(unknown))}")
        files = tuple(entry.get("files") or (identifier,))
        voice = Voice(
            id=identifier,
            display_name=entry.get("name", identifier),
            language_codes=tuple(entry.get("languages") or self._languages),
            attribution=entry.get("attribution", ", ".join(files)),
            licence=entry.get("licence", UNKNOWN),
        )
        named = tuple(name if name.endswith(self._suffix) else name + self._suffix for name in files)
        return KyutaiVoice(voice, named, None if entry.get("cfg") is None else float(entry["cfg"]))


def check_speakers(voice: KyutaiVoice, most: int) -> None:
    """Raises MeshError if a voice has more speakers than the checkpoint takes."""
    if len(voice.files) > most:
        raise MeshError(f"the voice {voice.voice.id} has {len(voice.files)} speakers, and this model takes {most}")
