"""`unmute characters`: who there is to talk to."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from mesh.cli import Command
from mesh.client.settings import ClientSettings, require_serving
from mesh.settings import OrchestratorAddress

if TYPE_CHECKING:
    from unmute.conversation.v1 import conversation_pb2 as pb


class CharactersSettings(OrchestratorAddress, ClientSettings):
    """Lists the characters that `unmute talk --character` can take."""


def run(settings: CharactersSettings) -> int:
    """Prints one line for each character."""
    characters = asyncio.run(_list(settings))
    if settings.json_output:
        from google.protobuf.json_format import MessageToDict

        for character in characters:
            fields = MessageToDict(character, preserving_proto_field_name=True)
            sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")
        return 0
    width = max((len(character.id) for character in characters), default=0)
    for character in characters:
        language = character.instructions.language_code
        details = ", ".join(part for part in (character.voice_id and f"voice {character.voice_id}", language) if part)
        sys.stdout.write(f"{character.id:<{width}}  {character.display_name}{f' ({details})' if details else ''}\n")
    return 0


async def _list(settings: CharactersSettings) -> list[pb.Character]:
    """Returns all characters, page by page."""
    import grpc

    from mesh.channels import from_rpc_error
    from unmute.conversation.v1 import conversation_pb2 as pb
    from unmute.conversation.v1 import conversation_pb2_grpc

    characters: list[pb.Character] = []
    async with settings.open_channel(settings.orchestrator) as channel:
        await require_serving(channel, "orchestrator", settings.orchestrator)
        stub: Any = conversation_pb2_grpc.ConversationServiceStub(channel)
        token = ""
        try:
            while True:
                page = await stub.ListCharacters(pb.ListCharactersRequest(page_token=token), timeout=settings.timeout)
                characters += page.characters
                token = page.next_page_token
                if not token:
                    return characters
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "orchestrator", settings.orchestrator) from None


command = Command(help="List the characters to talk to.", settings=CharactersSettings, run=run)
