"""The metrics of a real mesh, as Prometheus reads them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.registries import families
from tests.system.mesh import SERVICES, Mesh

pytestmark = pytest.mark.system


def values(page: str) -> dict[str, float]:
    """Returns the samples of a page, those of one name and several labels added up."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def test_every_service_tells_what_the_dashboard_asks_for(mesh: Mesh) -> None:
    known = families()
    for service in SERVICES:
        told = {family.name for family in text_string_to_metric_families(mesh.metrics(service))}
        wanted = {name.removesuffix("_total") for name, metric in known.items() if service in metric.services}
        assert wanted <= told, service


def test_a_conversation_shows_in_every_service(mesh: Mesh) -> None:
    before = {service: values(mesh.metrics(service)) for service in SERVICES}
    said = mesh.unmute("talk", "docs/question.wav", timeout=90.0)
    assert said.code == 0, said.err

    def grown(service: str, name: str) -> float:
        return values(mesh.metrics(service))[name] - before[service].get(name, 0.0)

    assert grown("orchestrator", "unmute_sessions_total") >= 1
    assert grown("orchestrator", "unmute_turns_total") >= 1
    assert grown("orchestrator", "unmute_voice_to_voice_seconds_count") >= 1
    assert grown("stt", "unmute_stt_audio_seconds_total") > 1
    assert grown("stt", "unmute_stt_step_seconds_count") >= 1
    assert grown("llm", "unmute_llm_time_to_first_token_seconds_count") >= 1
    assert grown("llm", "unmute_llm_tokens_total") >= 1
    assert grown("tts", "unmute_tts_time_to_first_audio_seconds_count") >= 1
    assert grown("tts", "unmute_tts_step_seconds_count") >= 1
    assert values(mesh.metrics("stt"))["unmute_stt_slots"] >= 1
