from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from mesh.interceptors import MeshInterceptor
from mesh.malformed import find_invalid_text
from mesh.status import read_details
from tests.mesh.rpc import serving
from unmute.conversation.v1 import conversation_pb2
from unmute.llm.v1 import llm_pb2
from unmute.stt.v1 import stt_pb2

BAD = b"\xff\xfe"


def spoilt(message: Message, text: str) -> bytes:
    """The message's bytes, with one text made invalid."""
    data = message.SerializeToString()
    assert data.count(text.encode()) == 1
    return data.replace(text.encode(), BAD)


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (stt_pb2.TranscribeRequest(config=stt_pb2.TranscribeConfig(model="??")), "config.model"),
        (
            stt_pb2.TranscribeRequest(config=stt_pb2.TranscribeConfig(language_codes=["en", "??"])),
            "config.language_codes[1]",
        ),
        (
            llm_pb2.GenerateRequest(generate=llm_pb2.Start(messages=[llm_pb2.Message(), llm_pb2.Message(text="??")])),
            "generate.messages[1].text",
        ),
        (conversation_pb2.ConverseRequest(event_id="??"), "event_id"),
        (conversation_pb2.Response(metadata={"key": "??"}), "metadata[0].value"),
    ],
)
def test_text_that_is_not_utf8_is_named(message: Message, path: str) -> None:
    data = spoilt(message, "??")
    assert find_invalid_text(message.DESCRIPTOR, data) == path
    assert find_invalid_text(message.DESCRIPTOR, message.SerializeToString()) == ""


@pytest.mark.parametrize("data", [b"", BAD, b"\xff\xff\xff", b"\x0a\x7f"])
def test_other_damage_names_nothing(data: bytes) -> None:
    assert find_invalid_text(stt_pb2.TranscribeRequest.DESCRIPTOR, data) == ""


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_server_names_the_field(unix_address: str, streaming: bool) -> None:
    async def unary(_request: Any, _context: Any) -> stt_pb2.ListModelsResponse:
        return stt_pb2.ListModelsResponse()

    async def stream(requests: Any, _context: Any) -> Any:
        async for _ in requests:
            yield stt_pb2.ListModelsResponse()

    make: Any = grpc.stream_stream_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
    read = stt_pb2.ListModelsRequest.FromString
    handler: Any = make(stream if streaming else unary, read, stt_pb2.ListModelsResponse.SerializeToString)
    data = spoilt(stt_pb2.ListModelsRequest(page_token="??"), "??")
    async with serving(unix_address, MeshInterceptor(), Do=handler) as channel:
        call: Any = (
            channel.stream_stream("/test.Test/Do")(iter([data]), timeout=20).read()
            if streaming
            else channel.unary_unary("/test.Test/Do")(data, timeout=20)
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "page_token: is not valid UTF-8",
    )
    assert read_details(caught.value)[1].field_violations[0].field == "page_token"
