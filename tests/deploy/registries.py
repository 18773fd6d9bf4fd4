"""The metrics that the services really make, and what an expression of PromQL asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bench.zero import ZeroLlm, ZeroStt, ZeroTts
from llm_service.server import LlmService
from mesh.metrics import Metrics
from mesh.telemetry import Telemetry
from mesh.web.metrics import WebMetrics, add_dropouts
from orchestrator.server import OrchestratorService
from orchestrator.settings import OrchestratorSettings
from stt_service.server import SttService
from tts_service.server import TtsService
from tts_service.settings import TtsSettings

TARGET_LABELS = frozenset({"job", "instance"})
"""Those that Prometheus adds to all."""
_WORDS = frozenset({"by", "or", "and", "on", "unless", "without"})


@dataclass(frozen=True)
class Metric:
    """One family of a registry."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str
    services: list[str] = field(default_factory=list, compare=False)


def registries() -> dict[str, Metrics]:
    """Returns the metrics of each service, made as its command makes them."""
    made = {name: Metrics() for name in ("orchestrator", "stt", "tts", "llm", "ui", "gateway")}
    for metrics in made.values():
        metrics.watch_process()
    SttService(ZeroStt(), telemetry=Telemetry(made["stt"]))
    LlmService(ZeroLlm(), Telemetry(made["llm"]))
    TtsService(ZeroTts(), TtsSettings(), Telemetry(made["tts"]))
    OrchestratorService(OrchestratorSettings(), telemetry=Telemetry(made["orchestrator"]))
    for kind, metrics in (("page", made["ui"]), ("gateway", made["ui"]), ("gateway", made["gateway"])):
        WebMetrics(metrics, kind, limit=1, active=lambda: 0)
    add_dropouts(made["ui"])
    return made


def families() -> dict[str, Metric]:
    """Returns every metric by its name in PromQL, a histogram without the endings of its series."""
    found: dict[str, Metric] = {}
    for service, metrics in registries().items():
        collectors = metrics.registry._names_to_collectors
        for family in metrics.registry.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = tuple(getattr(collectors.get(family.name), "_labelnames", ()))
            found.setdefault(name, Metric(name, family.type, labels, family.documentation)).services.append(service)
    return found


def asked_for(expression: str) -> set[tuple[str, frozenset[str]]]:
    """Returns the metrics of an expression, each with the labels that it is selected or split by."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    found = set()
    grouped = re.compile(r"by \(([^)]*)\) \((?:rate\()?([a-z_]+)")
    groups = {name: {label.strip() for label in labels.split(",")} for labels, name in grouped.findall(bare)}
    for name, selector in re.findall(r"\b([a-z_]\w*)\b(?!\s*\()\s*(\{[^}]*\})?", _without_groups(bare)):
        if name not in _WORDS:
            selected = set(re.findall(r"([a-z_]+)\s*(?:=|!=|=~|!~)", selector))
            found.add((name, frozenset(selected | groups.get(name, set()))))
    return found


def _without_groups(expression: str) -> str:
    return re.sub(r"by \([^)]*\)|\[[^\]]*\]", "", expression)


def check(expression: str, known: dict[str, Metric]) -> None:
    """Fails if an expression asks for a metric or a label that there is not."""
    asked = asked_for(expression)
    assert asked, f"nothing is asked for: {expression}"
    for name, labels in asked:
        if name == "up":
            assert labels <= TARGET_LABELS
            continue
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        metric = known.get(name) or known.get(family)
        assert metric is not None, f"{name} is no metric: {expression}"
        series = {"le"} if name.endswith("_bucket") else set()
        if name != metric.name:
            assert metric.kind == "histogram", f"{name} is none of its series: {expression}"
        else:
            assert metric.kind != "histogram", f"{name} is a histogram: {expression}"
        assert labels <= {*metric.labels, *series, *TARGET_LABELS}, f"{name} has no {labels}: {expression}"
