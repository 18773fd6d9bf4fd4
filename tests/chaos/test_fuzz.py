"""Anything at all is sent to every method of every service: it answers with a clean status, and goes on serving."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.zero import ZeroMesh, zero_mesh
from tests.chaos.messages import payloads
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2
from unmute.llm.v1 import llm_pb2
from unmute.stt.v1 import stt_pb2
from unmute.tts.v1 import tts_pb2

FILES = {"stt": stt_pb2, "tts": tts_pb2, "llm": llm_pb2, "all": conversation_pb2}
METHODS: dict[str, tuple[str, MethodDescriptor]] = {
    method.full_name.removeprefix("unmute."): (address, method)
    for address, file in FILES.items()
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
SPEECH = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=24_000)
OPENINGS: dict[str, Message] = {
    "Transcribe": stt_pb2.TranscribeRequest(config=stt_pb2.TranscribeConfig(format=SPEECH)),
    "Generate": llm_pb2.GenerateRequest(
        generate=llm_pb2.Start(messages=[llm_pb2.Message(role=llm_pb2.ROLE_USER, text="Hello.")])
    ),
    "StreamSynthesize": tts_pb2.StreamSynthesizeRequest(config=tts_pb2.SynthesisConfig()),
    "Converse": conversation_pb2.ConverseRequest(
        session_update=conversation_pb2.SessionUpdate(session=conversation_pb2.SessionConfig(input_format=SPEECH))
    ),
}
"""What gets a stream past its first message, so that what comes after it is looked at too."""
MOST_MESSAGES = 6
LISTEN_SECONDS = 0.25
"""A call that is still busy after this, as a conversation may be, is left."""
PATIENCE = 20.0
UNCLEAN = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
LEAKED = re.compile(r"Traceback|File \"|Error\b|Exception|object at 0x|site-packages|/[a-z_]+\.py", re.ASCII)


@dataclass
class Served:
    """The services, and the loop that they live in between two examples."""

    runner: asyncio.Runner
    mesh: ZeroMesh
    channels: dict[str, grpc.Channel]
    tasks: int = 0
    """That ran when nobody had called yet."""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="mesh") as folder, asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def begin() -> Served:
            mesh = await stack.enter_async_context(zero_mesh(Path(folder)))
            channels = {name: grpc.insecure_channel(f"unix:{folder}/{name}") for name in FILES}
            for channel in channels.values():
                stack.callback(channel.close)
            return Served(runner, mesh, channels)

        found = runner.run(begin())
        # The first calls begin what a channel or a server keeps.
        runner.run(_everything_is_well(found))
        found.tasks = runner.run(_count_tasks())
        yield found
        runner.run(stack.aclose())


@pytest.mark.parametrize("name", METHODS)
def test_whatever_is_sent(served: Served, name: str) -> None:
    address, method = METHODS[name]
    # A conversation goes on for as long as somebody talks, and the end of its requests lets it finish what it says.
    seconds = LISTEN_SECONDS if method.client_streaming else PATIENCE
    bodies = st.lists(payloads(method.input_type), min_size=0 if method.client_streaming else 1, max_size=MOST_MESSAGES)

    # The nightly profile tries 35 times as much.
    @settings(deadline=None, max_examples=settings().max_examples // (2 if method.client_streaming else 5))
    @given(bodies=bodies, opened=st.booleans())
    def send(bodies: list[bytes], opened: bool) -> None:
        first = OPENINGS.get(method.name)
        if first is not None and opened:
            bodies = [first.SerializeToString(), *bodies]
        served.runner.run(_send(served.channels[address], method, bodies, seconds))

    send()
    served.runner.run(_everything_is_well(served))


@pytest.mark.parametrize("name", METHODS)
def test_a_message_that_is_too_large(served: Served, name: str) -> None:
    address, method = METHODS[name]
    # Field 1000, which nobody knows, with more bytes than a message may have.
    huge = b"\xc2\x3e" + bytes([0x80, 0x80, 0x80, 0x04]) + b"\0" * 2**23
    code = served.runner.run(_send(served.channels[address], method, [huge], PATIENCE))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    served.runner.run(_everything_is_well(served))


async def _send(channel: grpc.Channel, method: MethodDescriptor, bodies: list[bytes], seconds: float) -> Any:
    """Makes one call; returns its status, None if it was still busy after `seconds` and was left."""
    service, _, name = method.full_name.rpartition(".")
    path = f"/{service}/{name}"
    make: Any = channel.stream_stream if method.client_streaming else channel.unary_stream
    # A unary answer is a stream of one. The synchronous client, since grpc.aio's loses the status of a call that ends
    # while a message is being written.
    call = make(path)(iter(bodies) if method.client_streaming else bodies[0])

    def read() -> None:
        with contextlib.suppress(grpc.RpcError):
            for _ in call:
                pass

    reading = asyncio.get_running_loop().run_in_executor(None, read)
    await asyncio.wait([reading], timeout=seconds)
    left = not reading.done()
    assert not left or seconds < PATIENCE, "the call hangs"
    call.cancel()
    async with asyncio.timeout(PATIENCE):
        await reading
    if left:
        return None
    code, details = call.code(), call.details()
    assert code not in UNCLEAN, f"{code.name}: {details}"
    assert not LEAKED.search(details or ""), details
    return code


async def _count_tasks() -> int:
    return len(asyncio.all_tasks()) - 1


async def _everything_is_well(served: Served) -> None:
    """Nothing is left behind, and each service answers as before."""

    async def is_left() -> bool:
        tasks = served.tasks and await _count_tasks() > served.tasks
        return bool(served.mesh.open_calls or served.mesh.used_slots or tasks)

    async with asyncio.timeout(PATIENCE):
        while await is_left():  # noqa: ASYNC110 - the services tell it in no other way
            await asyncio.sleep(0.02)
    asked = {
        "stt": ("unmute.stt.v1.SpeechToTextService/ListModels", stt_pb2.ListModelsRequest()),
        "tts": ("unmute.tts.v1.TextToSpeechService/ListVoices", tts_pb2.ListVoicesRequest()),
        "llm": ("unmute.llm.v1.LlmService/ListModels", llm_pb2.ListModelsRequest()),
        "all": ("unmute.conversation.v1.ConversationService/ListCharacters", conversation_pb2.ListCharactersRequest()),
    }
    for name, (path, request) in asked.items():
        call: Any = served.channels[name].unary_unary(f"/{path}")
        asking = asyncio.to_thread(call, request.SerializeToString(), timeout=PATIENCE)
        assert await asking
