"""Wires that are cut without a word, and callers that do not read: what they held is freed, and others are served."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from bench.zero import PHRASES, RATE, ZeroMesh, zero_mesh
from mesh.channels import CHANNEL_OPTIONS, from_rpc_error, open_channel
from mesh.errors import AbortedError
from mesh.service import SERVER_OPTIONS
from tests.chaos.callers import PATIENCE, STORY, Witness, is_event
from tests.chaos.proxy import wire
from unmute.audio.v1 import audio_pb2
from unmute.conversation.v1 import conversation_pb2 as pb
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc

EXPLAIN = list(PHRASES)[-1]
# As in the services, but in moments: a second is the least that gRPC takes.
QUICK = tuple(
    {
        **dict(SERVER_OPTIONS),
        "grpc.keepalive_time_ms": 1000,
        "grpc.keepalive_timeout_ms": 500,
        "grpc.http2.ping_timeout_ms": 500,
    }.items()
)
MAX_UNREAD_BYTES = 48 * 2**20


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mesh") as path:
        yield Path(path)


async def nothing_is_left(mesh: ZeroMesh) -> None:
    async with asyncio.timeout(PATIENCE):
        while mesh.open_calls or mesh.used_slots:  # noqa: ASYNC110 - the services tell it in no other way
            await asyncio.sleep(0.02)


async def test_a_conversation_whose_client_vanishes_without_a_word_is_ended(folder: Path) -> None:
    async with zero_mesh(folder, server_options=QUICK) as mesh, wire(folder / "wire", folder / "all") as cut:
        async with open_channel(f"unix:{folder}/wire") as channel:
            caller = Witness(channel, RATE)
            await caller.begin()
            await caller.begin_story()
            assert mesh.used_slots
            cut.fall_silent()
            await nothing_is_left(mesh)
            await caller.leave()
        async with open_channel(f"unix:{folder}/all") as channel:
            other = Witness(channel, RATE)
            await other.begin()
            await other.is_answered()
            await other.leave()


async def test_a_transcription_whose_caller_vanishes_without_a_word_is_ended(folder: Path) -> None:
    config = stt_pb2.TranscribeConfig(
        format=audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=RATE)
    )
    async with (
        zero_mesh(folder, server_options=QUICK) as mesh,
        wire(folder / "wire", folder / "stt") as cut,
        open_channel(f"unix:{folder}/wire") as channel,
    ):
        stub: Any = stt_pb2_grpc.SpeechToTextServiceStub(channel)
        call = stub.Transcribe()
        await call.write(stt_pb2.TranscribeRequest(config=config))
        assert (await call.read()).HasField("ready")
        assert mesh.used_slots == 1
        cut.fall_silent()
        await nothing_is_left(mesh)
        call.cancel()


async def test_a_service_that_vanishes_without_a_word_is_noticed_and_taken_up_again(folder: Path) -> None:
    async with (
        wire(folder / "wire", folder / "stt") as cut,
        zero_mesh(folder, stt=f"unix:{folder}/wire", service_timeout=3) as mesh,
    ):
        caller = Witness(mesh.channel, RATE)
        await caller.begin()
        cut.fall_silent()
        await caller.until(lambda event: event.error.reason == pb.ERROR_REASON_STT_UNAVAILABLE)
        cut.come_back()
        await caller.is_answered()
        await caller.leave()
        await nothing_is_left(mesh)


def test_keepalive_is_on_at_both_ends() -> None:
    """Half a minute is what a wire that was cut may cost; pings are no oftener than servers allow."""
    server, client = dict(SERVER_OPTIONS), dict(CHANNEL_OPTIONS)
    for options in (server, client):
        assert options["grpc.keepalive_time_ms"] <= 30_000
        assert options["grpc.keepalive_timeout_ms"] <= 10_000
        # Without this gRPC waits a minute for a ping that it made for another purpose, whatever the one above says.
        assert options["grpc.http2.ping_timeout_ms"] <= 10_000
    assert server["grpc.http2.min_ping_interval_without_data_ms"] < client["grpc.keepalive_time_ms"]


async def test_a_client_that_does_not_read_is_cut_off_and_costs_little_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.interceptors.TELL_SECONDS", 0.5)
    async with zero_mesh(folder, server_options=SERVER_OPTIONS, frames_per_word=4, slow_client_seconds=0.5) as mesh:
        process = psutil.Process()
        before = process.memory_info().rss
        caller = Unreading(mesh.channel)
        await caller.begin()
        # An answer is 1.9 s of audio at 48 kHz in 32 bits, 370 kB: far beyond what a window takes.
        await caller.say(EXPLAIN)
        await nothing_is_left(mesh)
        assert process.memory_info().rss - before < MAX_UNREAD_BYTES
        with pytest.raises(grpc.aio.AioRpcError):
            await caller.read_all()


async def test_a_client_that_reads_too_late_learns_why_it_was_cut_off(folder: Path) -> None:
    async with zero_mesh(folder, server_options=SERVER_OPTIONS, frames_per_word=4, slow_client_seconds=0.2) as mesh:
        caller = Unreading(mesh.channel)
        await caller.begin()
        await caller.say(EXPLAIN)
        async with asyncio.timeout(PATIENCE):
            while mesh.used_slots:  # noqa: ASYNC110 - the services tell it in no other way
                await asyncio.sleep(0.02)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.read_all()
        assert isinstance(from_rpc_error(caught.value, "orchestrator"), AbortedError)
        await nothing_is_left(mesh)


class Unreading(Witness):
    """Begins a conversation and then reads nothing more."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel, RATE)
        self._reading.cancel()

    async def begin(self) -> None:
        config = pb.SessionConfig(reports_playback=False)
        config.input_format.CopyFrom(
            audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hertz=RATE)
        )
        config.output_format.CopyFrom(
            audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_F32LE, sample_rate_hertz=48_000)
        )
        config.instructions.text = "Be brief."
        await self.send(session_update=pb.SessionUpdate(session=config))
        assert is_event("session_created")(await self._call.read())

    async def read_all(self) -> None:
        while await self._call.read() is not grpc.aio.EOF:
            pass


async def test_callers_that_come_and_go_at_once_leave_nothing(folder: Path) -> None:
    async with zero_mesh(folder) as mesh:

        async def one(number: int) -> None:
            caller = Witness(mesh.channel, RATE)
            if number % 2:
                await caller.begin()
                await caller.speak(STORY)
            await caller.leave()

        await asyncio.gather(*(one(number) for number in range(60)))
        await nothing_is_left(mesh)
