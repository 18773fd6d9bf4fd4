from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from bench.soak import Caller
from bench.zero import zero_mesh
from mesh.otlp import OtlpTracer
from tests.mesh.collector import Collected, collecting

SERVICES = ("orchestrator", "stt", "llm", "tts")


async def test_a_turn_is_one_trace_across_all_services() -> None:
    async with collecting() as collector:
        tracers = {name: OtlpTracer(name, collector.address) for name in SERVICES}
        with tempfile.TemporaryDirectory(prefix="mesh") as folder:
            async with zero_mesh(Path(folder), tracers) as mesh:
                caller = Caller(mesh.channel)
                await caller.begin()
                await caller.turn("spoken")
                await caller.turn("barge-in")
                await caller.turn("tool")
                await caller.hang_up()
        for tracer in tracers.values():
            await asyncio.to_thread(tracer.close)
        roots = [one for one in collector.named("turn") if one.attributes["unmute.turn.outcome"] != "session_ended"]
        assert len({root.span.trace_id for root in roots}) == len(roots)
        assert all(not root.span.parent_span_id for root in roots)
        outcomes = [root.attributes["unmute.turn.outcome"] for root in roots]
        assert outcomes.count("cancelled") == 1
        assert outcomes.count("completed") == 3

        for root in roots:
            trace = [one for one in collector.spans if one.span.trace_id == root.span.trace_id]
            assert {one.service for one in trace} == {f"unmute-{name}" for name in SERVICES}
            by_id = {one.span.span_id: one for one in trace}
            for one in trace:
                if one is not root:
                    assert one.span.parent_span_id in by_id, one
            assert _parents(trace, by_id, "stt.transcribe") == {"turn"}
            assert _parents(trace, by_id, "llm.generate") == {"llm"}
            assert _parents(trace, by_id, "tts.synthesize") == {"tts"}
            assert {one.attributes["unmute.session.id"] for one in trace if "unmute.session.id" in one.attributes} == {
                root.attributes["unmute.session.id"]
            }
            assert root.attributes["unmute.turn.interrupted"] == (root.attributes["unmute.turn.outcome"] == "cancelled")

        told = " ".join(str(one.span) for one in collector.spans).lower()
        assert not any(word in told for word in ("please", "story", "all right", "fox"))


def _parents(trace: list[Collected], by_id: dict[bytes, Collected], name: str) -> set[str]:
    return {by_id[one.span.parent_span_id].span.name for one in trace if one.span.name == name}
