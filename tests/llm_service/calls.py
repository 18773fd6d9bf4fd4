"""The servicer behind real gRPC, and how the tests call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from llm_service.engine import Engine
from llm_service.server import LlmService
from mesh.channels import open_channel
from mesh.interceptors import MeshInterceptor
from unmute.llm.v1 import llm_pb2, llm_pb2_grpc

pb = llm_pb2


USER = pb.Message(role=pb.ROLE_USER, text="Hi")


TIMEOUT = 20


class Client:
    def __init__(self, service: LlmService, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.channel = channel
        self.stub: Any = llm_pb2_grpc.LlmServiceStub(channel)

    def open(self) -> Any:
        return self.stub.Generate(timeout=TIMEOUT)


@asynccontextmanager
async def serving(engine: Engine, address: str) -> AsyncIterator[Client]:
    service = LlmService(engine)
    server = grpc.aio.server(interceptors=[MeshInterceptor("llm")])
    service.register(server)
    server.add_insecure_port(address)
    await service.start()
    await server.start()
    async with open_channel(address) as channel:
        yield Client(service, channel)
    await server.stop(0)
    await service.close()


def generate(answer_id: str = "a1", **fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(generate=pb.Start(answer_id=answer_id, **({"messages": [USER]} | fields)))


def prefix(*messages: pb.Message) -> pb.GenerateRequest:
    return pb.GenerateRequest(prefix=pb.Prefix(messages=messages or [USER]))


STOP = pb.GenerateRequest(stop=pb.Stop())


async def read_answer(call: Any) -> list[pb.GenerateResponse]:
    found = []
    while (response := await call.read()) is not grpc.aio.EOF:
        found.append(response)
        if response.WhichOneof("event") == "finished":
            break
    return found


def text_of(responses: list[pb.GenerateResponse]) -> str:
    return "".join(response.text.text for response in responses)


async def failure(call: Any, *requests: pb.GenerateRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:  # noqa: PT012 - whichever of these notices first
        for request in requests:
            await call.write(request)
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
        await call.write(STOP)
    return raised.value


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the server tells nobody when it has got so far
        await asyncio.sleep(0)
