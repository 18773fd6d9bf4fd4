from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.build import OUTPUT, build
from mesh.names import METRICS_PORTS
from tests.deploy.needs import program
from tests.deploy.registries import Metric, asked_for, check, families, registries

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
CONFIGURATIONS = ("prometheus.yml", "swarm.yml", "local.yml")
DOCUMENT = ROOT / "docs" / "observability.md"


@pytest.fixture(scope="module")
def known() -> dict[str, Metric]:
    return families()


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(OUTPUT.read_text())["panels"] if panel["type"] != "row"]


def test_the_dashboard_is_the_one_that_its_script_builds() -> None:
    assert json.loads(OUTPUT.read_text()) == build()


def test_every_query_of_the_dashboard_asks_for_metrics_and_labels_that_there_are(known: dict[str, Metric]) -> None:
    for panel in panels():
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            check(target["expr"], known)


def test_every_legend_names_labels_that_its_query_gives() -> None:
    for panel in panels():
        for target in panel["targets"]:
            given = {label for _, labels in asked_for(target["expr"]) for label in labels}
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                unsplit = " by " not in target["expr"] and "sum" not in target["expr"] and label in ("job", "instance")
                assert label in given or unsplit, (panel["title"], label)


def test_no_panel_covers_another() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(OUTPUT.read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        mine = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not mine & cells, panel["title"]
        cells |= mine


def test_the_provisioning_names_the_source_that_the_dashboard_asks_for() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    [variable] = build()["templating"]["list"]
    assert source["type"] == variable["query"]
    assert source["uid"] == variable["current"]["value"]
    [provider] = yaml.safe_load((folder / "dashboards" / "unmute.yaml").read_text())["providers"]
    assert provider["type"] == "file"


def test_every_alert_asks_for_metrics_that_there_are(known: dict[str, Metric]) -> None:
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            check(rule["expr"], known)
            assert rule["annotations"]["summary"]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_prometheus_asks_every_service_where_its_metrics_are(name: str) -> None:
    configuration = yaml.safe_load((PROMETHEUS / name).read_text())
    assert all((PROMETHEUS / file).is_file() for file in configuration["rule_files"])
    ports = {}
    for job in configuration["scrape_configs"]:
        if found := job.get("dns_sd_configs"):
            ports[job["job_name"]] = found[0]["port"]
            assert found[0]["names"][0].split(".")[-1] == job["job_name"]
        else:
            ports[job["job_name"]] = int(job["static_configs"][0]["targets"][0].rpartition(":")[2])
    # Envoy's own, where there is one in front.
    assert ports.pop("proxy", 9902) == 9902
    assert ports == {name: port for name, port in METRICS_PORTS.items() if name != "gateway"}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_promtool_takes_the_configuration_and_its_rules(name: str) -> None:
    promtool = program("promtool", "apt install prometheus")
    done = subprocess.run(
        [promtool, "check", "config", str(PROMETHEUS / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_document_describes_every_metric_as_it_is(known: dict[str, Metric]) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    described = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), about) for name, kind, labels, about in rows}
    own = {name: metric for name, metric in known.items() if name.startswith(("unmute_", "grpc_"))}
    assert described == {name: (metric.kind, metric.labels, metric.about) for name, metric in own.items()}


def test_every_series_that_can_be_known_is_there_from_the_beginning() -> None:
    # The first interruption would else be no growth, and the rate of it nothing.
    unknown = {"unmute_errors_total", "grpc_server_handled_total", "unmute_backends"}
    for metrics in registries().values():
        for family in metrics.registry.collect():
            if family.name.startswith("unmute_") and not {family.name, f"{family.name}_total"} & unknown:
                assert family.samples, family.name


def test_labels_are_few_and_bounded(known: dict[str, Metric]) -> None:
    # What a conversation, a client or a model may name freely makes a series for each of its names.
    bounded = {"method", "code", "reason", "stage", "outcome", "status", "kind", "direction", "service", "state"}
    used = {label for name, metric in known.items() if name.startswith(("unmute_", "grpc_")) for label in metric.labels}
    assert used <= bounded
