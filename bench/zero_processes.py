"""A mesh with engines that take no time, each service in a process of its own, which can be killed and begun again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil

from mesh.channels import HealthState, check_health, open_channel
from mesh.names import HEALTH_NAMES
from unmute.stt.v1 import stt_pb2, stt_pb2_grpc
from unmute.tts.v1 import tts_pb2, tts_pb2_grpc

START_SECONDS = 60.0
STOP_SECONDS = 30.0
MODELS = ("stt", "llm", "tts")


class ZeroProcesses:
    """Begins with `async with`, which returns once all serve."""

    def __init__(
        self,
        *,
        services_on: list[int] | None = None,
        orchestrator_on: list[int] | None = None,
        orchestrator_flags: tuple[str, ...] = ("--service-timeout", "60"),
        profile: Path | None = None,
    ) -> None:
        """Chooses ports.

        Args:
            services_on: cores of the three services; None: as this process.
            orchestrator_on: cores of the orchestrator.
            orchestrator_flags: further flags of it.
            profile: file that the orchestrator writes a profile to when it ends.
        """
        ports = {name: _free_port() for name in HEALTH_NAMES}
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        """Where each service is, by its short name."""
        profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
        orchestrator = [*profiler, "-m", "mesh", "orchestrator", "--port", str(ports["orchestrator"])]
        for name in MODELS:
            orchestrator += [f"--{name}", self.addresses[name]]
        orchestrator += ["--max-sessions", "10000", "--log-level", "ERROR", "--seed", "1", *orchestrator_flags]
        self._commands = {name: ["-m", "bench.zero_server", name, str(ports[name])] for name in MODELS}
        self._commands["orchestrator"] = orchestrator
        self._cores = {**dict.fromkeys(MODELS, services_on), "orchestrator": orchestrator_on}
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> ZeroProcesses:
        """Starts all."""
        try:
            await asyncio.gather(*(self.start(name) for name in HEALTH_NAMES))
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops all."""
        await self.stop()

    async def start(self, name: str) -> None:
        """Starts a service, and returns once it serves."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *self._commands[name], stdin=asyncio.subprocess.DEVNULL
        )
        self._processes[name] = process
        if (on := self._cores[name]) is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, on)
        deadline = time.monotonic() + START_SECONDS
        async with open_channel(self.addresses[name]) as channel:
            while (await check_health(channel, HEALTH_NAMES[name])).state is not HealthState.SERVING:
                if process.returncode is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} does not serve")
                await asyncio.sleep(0.05)

    async def kill(self, name: str) -> None:
        """Kills a service as a machine that fails does: it closes nothing and says nothing."""
        self._processes[name].kill()
        await self._processes[name].wait()

    def process(self, name: str) -> psutil.Process:
        """Returns a service's process."""
        return psutil.Process(self._processes[name].pid)

    async def used_slots(self) -> int:
        """Returns how many streams and utterances are open in the services."""
        async with AsyncExitStack() as stack:
            stt = await stack.enter_async_context(open_channel(self.addresses["stt"]))
            tts = await stack.enter_async_context(open_channel(self.addresses["tts"]))
            stt_stub: Any = stt_pb2_grpc.SpeechToTextServiceStub(stt)
            tts_stub: Any = tts_pb2_grpc.TextToSpeechServiceStub(tts)
            models = await stt_stub.ListModels(stt_pb2.ListModelsRequest(), timeout=5)
            voices = await tts_stub.ListVoices(tts_pb2.ListVoicesRequest(), timeout=5)
            return int(models.models[0].used_slot_count + voices.used_slot_count)

    async def stop(self) -> None:
        """Ends all that run."""
        running = [process for process in self._processes.values() if process.returncode is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
