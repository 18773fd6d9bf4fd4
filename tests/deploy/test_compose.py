"""compose.yaml: what it promises of every container."""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from typing import Any

import pytest
from compose_spec import PyCompose

from mesh.cli import GROUP
from mesh.settings import load_settings
from tests.deploy.compose import PAGE, default_profiles, load, names_on, services_of
from tests.deploy.dockerfile import read
from tests.system.mesh import ROOT

MODEL = load()
STAGES = read(ROOT / "Dockerfile")
PROFILES = ("cpu", "gpu", "gpu3")
OURS = ("stt", "tts", "llm", "orchestrator", PAGE)


def base_name(name: str) -> str:
    """Returns which part of the mesh a service is: `stt` of `stt-gpu`."""
    return name.partition("-")[0]


def test_the_specification_knows_all_that_it_says() -> None:
    PyCompose.from_json(json.dumps(MODEL)).validate()


def test_without_a_profile_everything_runs_on_a_cpu() -> None:
    assert default_profiles() == ["cpu"]
    assert set(services_of(MODEL, "cpu")) == {"proxy", *OURS}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_a_whole_mesh(profile: str) -> None:
    services = services_of(MODEL, profile)
    assert sorted(base_name(name) for name in services) == sorted(("proxy", *OURS))
    for name, service in services.items():
        if base_name(name) in ("stt", "tts", "llm"):
            assert base_name(name) in names_on(service, name, "mesh")


def test_monitoring_comes_beside_a_mesh() -> None:
    assert set(services_of(MODEL, "cpu", "monitoring")) - set(services_of(MODEL, "cpu")) == {"prometheus", "grafana"}


@pytest.mark.parametrize("name", MODEL["services"])
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    service = MODEL["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["tmpfs"]
    assert all(volume.endswith(":ro") for volume in service.get("volumes", []) if volume.startswith("."))
    if "build" not in service:
        assert int(service["user"].partition(":")[0]) > 0
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


@pytest.mark.parametrize("name", [name for name, service in MODEL["services"].items() if "build" in service])
def test_a_container_is_built_from_a_target_that_can_run_it(name: str) -> None:
    service = MODEL["services"][name]
    stage = STAGES[service["build"]["target"]]
    assert stage.of("USER")[-1] != "root"
    assert service["healthcheck"]["test"][0] == "CMD"
    caches = [volume.partition(":")[2] for volume in service.get("volumes", [])]
    assert caches == ([stage.environment()["XDG_CACHE_HOME"]] if base_name(name) in ("stt", "tts", "llm") else [])


@pytest.mark.parametrize("name", [name for name in MODEL["services"] if base_name(name) in OURS])
def test_a_container_is_given_the_time_to_drain(name: str) -> None:
    service = MODEL["services"][name]
    drain = float(service["environment"][f"UNMUTE_{base_name(name).upper()}_DRAIN_SECONDS"])
    assert float(service["stop_grace_period"].removesuffix("s")) >= drain + 5


def test_the_models_stop_after_the_orchestrator() -> None:
    depends = MODEL["services"]["orchestrator"]["depends_on"]
    assert set(depends) == {name for name in MODEL["services"] if base_name(name) in ("stt", "tts", "llm")}
    assert not any(needed["required"] for needed in depends.values())


def test_only_the_proxy_is_published_and_to_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in services_of(MODEL, "cpu").items() if "ports" in service}
    assert published == {"proxy": ["127.0.0.1:80:8080"]}
    everywhere = load({"UNMUTE_BIND": "0.0.0.0", "UNMUTE_PORT": "8000"})  # noqa: S104 - compared, not bound
    assert everywhere["services"]["proxy"]["ports"] == ["0.0.0.0:8000:8080"]
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in MODEL["services"][name]["ports"])


def test_the_models_are_out_of_the_proxys_reach() -> None:
    for name, service in MODEL["services"].items():
        if base_name(name) in ("stt", "tts", "llm"):
            for other in ("proxy", PAGE):
                assert not set(service["networks"]) & set(MODEL["services"][other]["networks"])


def test_prometheus_reaches_every_service_and_grafana_none() -> None:
    reach = set(MODEL["services"]["prometheus"]["networks"])
    assert all(reach & set(service["networks"]) for service in MODEL["services"].values())
    assert MODEL["services"]["grafana"]["networks"] == ["monitoring"]


def test_what_shares_a_gpu_fits_into_24_gb() -> None:
    services = services_of(MODEL, "gpu")
    stt = 2.2 + 0.107 * int(services["stt-gpu"]["environment"]["UNMUTE_STT_BATCH_SIZE"]) + 2
    tts = 4.0 + 0.158 * int(services["tts-gpu"]["environment"]["UNMUTE_TTS_BATCH_SIZE"]) + 2
    share = float(services["llm-gpu"]["environment"]["UNMUTE_LLM_GPU_MEMORY_UTILIZATION"])
    assert stt + tts + 24 * share <= 24


def gpus(services: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    return {
        base_name(name): device["device_ids"]
        for name, service in services.items()
        for device in service["deploy"]["resources"].get("reservations", {}).get("devices", [])
        if device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]
    }


def test_gpus_are_shared_or_apart_as_the_profile_says() -> None:
    assert gpus(services_of(MODEL, "cpu")) == {}
    assert gpus(services_of(MODEL, "gpu")) == {"stt": ["0"], "tts": ["0"], "llm": ["0"]}
    assert gpus(services_of(MODEL, "gpu3")) == {"stt": ["0"], "tts": ["1"], "llm": ["2"]}


@pytest.mark.parametrize("name", [name for name in MODEL["services"] if base_name(name) in OURS])
def test_a_command_and_its_variables_are_those_of_the_mesh(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = MODEL["services"][name]
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, value)
    program, subcommand, *flags = service["command"]
    [point] = entry_points(group=GROUP, name=subcommand)
    settings = load_settings(point.load().settings, flags, f"{program} {subcommand}").model_dump()
    assert subcommand == base_name(name)
    assert settings["host"] == "0.0.0.0"  # noqa: S104 - compared, not bound
    for variable, value in service["environment"].items():
        prefix, _, field = variable.partition(f"_{subcommand.upper()}_")
        if prefix == "UNMUTE" and field != "ADDRESS":
            assert str(settings[field.lower()]) in (value, f"{value}.0"), variable
    for upstream in ("stt", "tts", "llm", "orchestrator"):
        if upstream in settings:
            assert settings[upstream] == service["environment"][f"UNMUTE_{upstream.upper()}_ADDRESS"]
