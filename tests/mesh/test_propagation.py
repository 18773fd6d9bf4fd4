from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from mesh.errors import MeshError, UnavailableError, reason_of
from mesh.interceptors import MeshInterceptor
from mesh.logs import bind_ids, current_ids
from mesh.metrics import OTHER, Metrics
from mesh.propagation import adopt_metadata, call_metadata
from mesh.tracing import NO_SPAN, NO_TRACER, current_traceparent, make_tracer, working_on
from tests.mesh.recording import RecordingTracer
from tests.mesh.rpc import STYLES, call, make_handler, serving

METHOD = "/test.Test/Do"


@pytest.mark.parametrize(("kind", "style"), STYLES)
async def test_a_handler_works_for_the_conversation_that_its_call_names(
    kind: str, style: str, unix_address: str
) -> None:
    seen: list[tuple[str, str, str]] = []

    async def note(_request: object, _context: object) -> None:
        seen.append((current_ids().session, current_ids().turn, current_traceparent()))

    metadata = (("x-unmute-session", "sess_1"), ("x-unmute-turn", "item_2"), ("traceparent", "00-ab-cd-01"))
    async with serving(unix_address, MeshInterceptor(), Do=make_handler(kind, style, note)) as channel:
        await call(channel, kind, METHOD, metadata=metadata)
        await call(channel, kind, METHOD)
    # The next call is nobody's.
    assert seen == [("sess_1", "item_2", "00-ab-cd-01"), ("", "", "")]


async def test_a_call_tells_its_service_whose_it_is() -> None:
    span = RecordingTracer().begin("turn")
    assert call_metadata() == ()
    bind_ids("sess_1").turn = "item_2"
    with working_on(span):
        assert dict(call_metadata()) == {
            "x-unmute-session": "sess_1",
            "x-unmute-turn": "item_2",
            "traceparent": span.traceparent,
        }
    assert "traceparent" not in dict(call_metadata())


@pytest.mark.parametrize("odd", ["two\nlines", "x" * 1000, "{}", "sess 1"])
async def test_what_no_service_sends_reaches_no_log(odd: str) -> None:
    adopt_metadata((("x-unmute-session", odd), ("traceparent", odd), ("x-unmute-turn", odd)))
    assert (current_ids().session, current_ids().turn, current_traceparent()) == ("", "", "")


def test_without_an_endpoint_nothing_is_traced_and_nothing_imported() -> None:
    assert make_tracer("stt", None) is NO_TRACER
    assert NO_TRACER.begin("turn") is NO_SPAN
    assert NO_SPAN.child("llm") is NO_SPAN
    assert NO_SPAN.traceparent == ""
    program = (
        "import sys, orchestrator.server, stt_service.server, llm_service.server, tts_service.server, mesh.service"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{program}; sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))",
        ],
        check=False,
    )
    assert done.returncode == 0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mesh.otlp", None)
    with pytest.raises(MeshError, match=r"unmute-mesh\[otel\]"):
        make_tracer("stt", "http://localhost:4317")


def test_reasons_of_errors_are_bounded() -> None:
    metrics = Metrics()

    def value(reason: str) -> Any:
        return metrics.registry.get_sample_value("unmute_errors_total", {"reason": reason})

    metrics.error("AT_CAPACITY")
    metrics.error("somebody's words")
    for number in range(1000):
        metrics.error(f"REASON_{number}")
    assert value("AT_CAPACITY") == 1
    assert value("somebody's words") is None
    assert value(OTHER) > 800
    metrics.error("AT_CAPACITY")
    assert value("AT_CAPACITY") == 2


async def test_a_call_that_fails_is_counted_by_its_reason(unix_address: str) -> None:
    async def fail(_request: object, _context: object) -> None:
        raise ExceptionGroup("several", [UnavailableError("is away", reason="TTS_UNAVAILABLE")])

    metrics = Metrics()
    interceptor = MeshInterceptor(metrics=metrics)
    async with serving(unix_address, interceptor, Do=make_handler("unary_unary", "coroutine", fail)) as channel:
        with pytest.raises(Exception, match="is away"):
            await call(channel, "unary_unary", METHOD)
    assert metrics.registry.get_sample_value("unmute_errors_total", {"reason": "TTS_UNAVAILABLE"}) == 1


def test_the_reason_of_a_group_is_that_of_the_error_that_has_one() -> None:
    inner = ExceptionGroup("inner", [ValueError("odd"), UnavailableError("away", reason="GONE")])
    assert reason_of(ExceptionGroup("outer", [KeyError("a"), inner])) == "GONE"
    assert reason_of(ValueError("odd")) == "INTERNAL"
