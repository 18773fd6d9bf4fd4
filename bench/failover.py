"""What it costs a conversation when the backend that it uses dies or drains, and another one takes its place.

    python -m bench.failover [--rounds N]

Three backends of each service, with engines that take no time, are processes of their own. In each round one is killed
(SIGKILL) or told to end (SIGTERM) while a conversation uses it. Speech to text: the time from that signal until another
backend has admitted the transcription. The others: how much longer than usual the next answer takes, asked the moment
the process is gone, or the moment it is told to end.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import tempfile
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.replicas import Replica, Replicas, replicas
from bench.soak import Caller
from bench.zero import VOICE_RATE
from orchestrator.turns.events import Service
from unmute.conversation.v1 import conversation_pb2 as pb

PATIENCE = 60.0
POLL_SECONDS = 0.001


class Talker(Caller):
    """A client that counts errors and goes on."""

    errors = 0

    def failed(self, error: pb.ErrorEvent) -> None:
        """Counts one."""
        self.errors += 1


async def until(condition: Callable[[], bool]) -> None:
    """Looks a thousand times a second."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(POLL_SECONDS)


def users(mesh: Replicas, service: Service) -> dict[str, int]:
    """Returns how many calls are open to each backend."""
    return {backend.target: backend.calls for backend in mesh.upstreams.pools[service].backends}


def in_use(mesh: Replicas, service: Service) -> Replica:
    """Returns the backend that the only conversation uses."""
    calls = users(mesh, service)
    return max(mesh.backends[service], key=lambda replica: calls[replica.address])


async def answer_seconds(talker: Talker) -> float:
    """Types a question; returns the time until it has been answered and played."""
    began = time.perf_counter()
    await talker.turn("typed")
    return time.perf_counter() - began


async def measure(mesh: Replicas, service: Service, number: signal.Signals) -> tuple[float, int]:
    """Ends a backend that a conversation uses; returns the seconds that this cost it, and the errors it was told."""
    talker = Talker(mesh.channel, VOICE_RATE)
    try:
        await talker.begin()
        usual = statistics.median([await answer_seconds(talker) for _ in range(5)])
        if service is Service.TTS:
            # Its calls last as long as an utterance: whichever comes next in turn may be the one.
            target = mesh.upstreams.pools[service].order()[0].target
            old = next(replica for replica in mesh.backends[service] if replica.address == target)
        else:
            old = in_use(mesh, service)
        began = time.perf_counter()
        ending = asyncio.ensure_future(old.end(number))
        if service is Service.STT:
            others = [replica.address for replica in mesh.backends[service] if replica is not old]
            await until(lambda: any(users(mesh, service)[address] for address in others))
            cost = time.perf_counter() - began
        else:
            if number is signal.SIGKILL:
                await ending
            cost = max(0.0, await answer_seconds(talker) - usual)
        await ending
        await talker.turn("spoken")
        return cost, talker.errors
    finally:
        talker.vanish()
        await old.start()
        await until(lambda: len(mesh.serving(service)) == len(mesh.backends[service]))


async def run(rounds: int) -> None:
    """Measures and prints a table."""
    table = Table(title=f"Failover, {rounds} rounds; {describe()}")
    for title in ("service", "its backend is", "median", "worst", "errors told"):
        table.add_column(title, justify="left" if title in ("service", "its backend is") else "right")
    with tempfile.TemporaryDirectory() as folder:
        async with replicas(f"unix:{folder}/o") as mesh:
            for service in Service:
                for number, how in ((signal.SIGKILL, "killed"), (signal.SIGTERM, "drained")):
                    found = [await measure(mesh, service, number) for _ in range(rounds)]
                    costs = [1000 * cost for cost, _ in found]
                    errors = sum(told for _, told in found)
                    row = (f"{statistics.median(costs):.0f} ms", f"{max(costs):.0f} ms", f"{errors} in {rounds}")
                    table.add_row(service.value, how, *row)
    Console().print(table)


def main() -> None:
    """Reads the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    asyncio.run(run(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
