"""Which voices the mesh has: as clients read them, and for those that ask for another server's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.unmute.events import KINDS
from mesh.errors import MeshError
from mesh.web.orchestrator import Orchestrator
from unmute.conversation.v1 import conversation_pb2 as pb

KEPT_SECONDS = 30.0


class Voices:
    """The ids of the voices, asked for now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._ids: frozenset[str] = frozenset()
        self._until = clock()

    async def ids(self, orchestrator: Orchestrator) -> frozenset[str]:
        """Returns them; those of before, or none, while the orchestrator cannot tell."""
        now = self._clock()
        if now >= self._until:
            try:
                self._ids = frozenset(voice.id for voice in await orchestrator.voices())
            except MeshError:
                return self._ids
            self._until = now + KEPT_SECONDS
        return self._ids


def listed(voices: Sequence[pb.Voice], characters: Sequence[pb.Character]) -> list[dict[str, Any]]:
    """Returns the voices as `GET /v1/voices` has them, with the fields that Unmute's clients read.

    Their voices bring instructions: those of the first character with the voice, if they have a name for its kind.
    """
    types = {kind: name for name, kind in KINDS.items()}
    spoken: dict[str, dict[str, str]] = {}
    for character in characters:
        if character.kind in types:
            language = character.instructions.language_code
            spoken.setdefault(character.voice_id, {"type": types[character.kind], "language": language})
    return [
        {
            "id": voice.id,
            "name": voice.display_name or voice.id,
            "languages": list(voice.language_codes),
            "attribution": voice.attribution,
            "good": True,
            "instructions": spoken.get(voice.id),
            "source": {"source_type": "file", "path_on_server": voice.id},
        }
        for voice in voices
    ]
