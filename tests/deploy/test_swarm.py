"""deploy/swarm.yaml: what it promises of every task."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from mesh.names import METRICS_PORTS, PORTS
from tests.deploy.compose import interpolate, load
from tests.system.mesh import ROOT

FILE = ROOT / "deploy" / "swarm.yaml"
STACK: dict[str, Any] = yaml.safe_load(interpolate(FILE.read_text(encoding="utf-8"), {}))
COMPOSE = load()["services"]
MODELS = ("stt", "tts", "llm")
OURS = (*MODELS, "orchestrator", "ui")
# What a Swarm leaves out without a word.
IGNORED = {"build", "restart", "profiles", "depends_on", "security_opt", "tmpfs", "shm_size", "container_name"}


def test_the_specification_knows_all_that_it_says() -> None:
    # The one word that this reader of the specification does not know; Docker itself is asked below.
    PyCompose.from_json(json.dumps(STACK).replace('"rollback"', '"pause"')).validate()
    for name, service in STACK["services"].items():
        assert not IGNORED & set(service), name


@pytest.mark.skipif(not shutil.which("docker"), reason="needs docker")
def test_docker_itself_takes_it() -> None:
    command = ["docker", "stack", "config", "--compose-file", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_runs_what_compose_runs() -> None:
    assert set(OURS) | {"proxy", "prometheus"} == set(STACK["services"])
    for name in (*OURS, "proxy"):
        mine, theirs = STACK["services"][name], COMPOSE[name]
        for key in ("command", "entrypoint", "user"):
            assert mine.get(key) == theirs.get(key), name
        assert mine["healthcheck"]["test"] == theirs["healthcheck"]["test"]
        assert mine["image"] == theirs["image"]


def test_there_is_more_than_one_of_each() -> None:
    for name in OURS:
        deploy = STACK["services"][name]["deploy"]
        assert deploy["replicas"] >= 2
        # The new one serves before the old one drains.
        assert deploy["update_config"]["order"] == "start-first"
    assert STACK["services"]["proxy"]["deploy"]["mode"] == "global"


def test_the_orchestrator_finds_every_task() -> None:
    environment = STACK["services"]["orchestrator"]["environment"]
    for name in MODELS:
        assert environment[f"UNMUTE_{name.upper()}_ADDRESS"] == f"dns:///tasks.{name}:{PORTS[name]}"
    for name in ("orchestrator", "ui"):
        assert STACK["services"][name]["deploy"]["endpoint_mode"] == "dnsrr"


@pytest.mark.parametrize("name", OURS)
def test_a_task_drains_is_measured_and_asks_for_the_token(name: str) -> None:
    service = STACK["services"][name]
    environment = service["environment"]
    prefix = f"UNMUTE_{name.upper()}"
    assert float(service["stop_grace_period"].removesuffix("s")) >= float(environment[f"{prefix}_DRAIN_SECONDS"]) + 10
    assert environment[f"{prefix}_METRICS_PORT"] == str(METRICS_PORTS[name])
    assert environment["UNMUTE_AUTH_TOKEN_FILE"] == f"/run/secrets/{service['secrets'][0]}"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_every_file_of_a_config_is_there() -> None:
    for config in STACK["configs"].values():
        assert (FILE.parent / config["file"]).is_file()
    mounted = {one["target"].rpartition("/")[2] for one in STACK["services"]["proxy"]["configs"]}
    script = (ROOT / "deploy" / "envoy" / "start.sh").read_text(encoding="utf-8")
    assert set(re.findall(r"\b\w+\.yaml", script)) <= mounted


def test_the_networks_are_encrypted() -> None:
    for network in STACK["networks"].values():
        assert network["driver_opts"]["encrypted"] == "true"
