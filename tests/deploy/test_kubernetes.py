"""deploy/kubernetes: the objects of both overlays against Kubernetes' own schemas, and what they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from mesh.names import HEALTH_NAMES, METRICS_PORTS, PORTS
from tests.deploy.dockerfile import read as read_dockerfile
from tests.deploy.kustomize import Object, build, find, read
from tests.deploy.registries import families
from tests.system.mesh import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
MODELS = ("stt", "tts", "llm")
PARTS = (*MODELS, "orchestrator", "ui", "proxy")
KUBERNETES = "1.33"


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return build(FOLDER / "overlays" / request.param)


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for one in objects:
        if one["kind"] == "Deployment":
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def variables(container: Object) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


def test_every_object_is_one_that_kubernetes_takes(objects: list[Object]) -> None:
    for one in objects:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "unmute"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_itself_makes_the_same(overlay: str) -> None:
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    def plain(one: Object) -> Any:
        # Labels are added everywhere, and a generated name ends with a hash.
        text = re.sub(r"envoy-[0-9a-z]{10}", "envoy", yaml.safe_dump({**one, "metadata": one["metadata"]["name"]}))
        return sorted(line for line in text.splitlines() if "app.kubernetes.io/part-of" not in line)

    ours = sorted(plain(one) for one in build(FOLDER / "overlays" / overlay))
    assert ours == sorted(plain(one) for one in yaml.safe_load_all(done.stdout))


def test_a_pod_has_no_more_rights_than_it_needs(objects: list[Object]) -> None:
    assert sorted(name for name, _ in pods(objects)) == sorted(PARTS)
    for _, pod in pods(objects):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"]


def test_an_image_is_a_target_that_has_the_command(objects: list[Object]) -> None:
    stages = read_dockerfile(ROOT / "Dockerfile")
    for name, pod in pods(objects):
        [container] = pod["containers"]
        if name != "proxy":
            target = container["image"].partition(":")[0].removeprefix("unmute-mesh-")
            assert stages[target].of("USER") == [f"{pod['securityContext']['runAsUser']}:1000"]
            assert container["command"][:2] == ["unmute", name]
            if name in MODELS:
                caches = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "models"]
                assert caches == [stages[target].environment()["XDG_CACHE_HOME"]]


def test_a_pod_is_given_the_time_to_drain(objects: list[Object]) -> None:
    for name, pod in pods(objects):
        [container] = pod["containers"]
        variable = "DRAIN_SECONDS" if name == "proxy" else f"UNMUTE_{name.upper()}_DRAIN_SECONDS"
        assert pod["terminationGracePeriodSeconds"] >= float(variables(container)[variable]) + 10


def test_probes_ask_the_health_service(objects: list[Object]) -> None:
    for name, pod in pods(objects):
        [container] = pod["containers"]
        if name in HEALTH_NAMES:
            assert container["readinessProbe"]["grpc"] == {"port": PORTS[name], "service": HEALTH_NAMES[name]}
            # Alive is whoever serves anything: a service is not killed for what it depends on.
            assert container["livenessProbe"]["grpc"] == {"port": PORTS[name]}
        for probe in ("readinessProbe", "livenessProbe"):
            assert container[probe]["periodSeconds"] > 0


def test_every_service_finds_its_pods(objects: list[Object]) -> None:
    labels = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in objects_of(objects)}
    containers = {name: pod["containers"][0] for name, pod in pods(objects)}
    for service in (one for one in objects if one["kind"] == "Service"):
        [chosen] = [name for name, own in labels.items() if service["spec"]["selector"].items() <= own.items()]
        ports = {one["name"]: one["containerPort"] for one in containers[chosen]["ports"]}
        for port in service["spec"]["ports"]:
            assert port.get("targetPort", port["port"]) in (*ports, *ports.values())
    for name in (*MODELS, "orchestrator", "ui"):
        assert find(objects, "Service", name)["spec"]["clusterIP"] == "None"
        ports = {one["name"]: one["port"] for one in find(objects, "Service", name)["spec"]["ports"]}
        assert ports == {"http" if name == "ui" else "grpc": PORTS[name], "metrics": METRICS_PORTS[name]}


def objects_of(objects: list[Object]) -> list[Object]:
    return [one for one in objects if one["kind"] == "Deployment"]


def test_the_orchestrator_finds_every_pod_of_a_service(objects: list[Object]) -> None:
    [container] = dict(pods(objects))["orchestrator"]["containers"]
    for name in MODELS:
        assert variables(container)[f"UNMUTE_{name.upper()}_ADDRESS"] == f"dns:///{name}:{PORTS[name]}"


def test_a_node_that_is_emptied_takes_one_replica_at_a_time(objects: list[Object]) -> None:
    for name in PARTS:
        budget = find(objects, "PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"]["matchLabels"] == {"app": name}


def test_only_the_orchestrator_reaches_the_models(objects: list[Object]) -> None:
    policies = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress"]} in policies
    policy = find(objects, "NetworkPolicy", "orchestrator-to-models")["spec"]
    assert policy["podSelector"]["matchExpressions"] == [{"key": "app", "operator": "In", "values": list(MODELS)}]
    assert policy["ingress"] == [
        {"from": [{"podSelector": {"matchLabels": {"app": "orchestrator"}}}], "ports": [{"port": "grpc"}]}
    ]


def test_replicas_follow_the_slots_in_use() -> None:
    objects = build(FOLDER / "overlays" / "cpu")
    for name in (*MODELS, "orchestrator"):
        scaler = find(objects, "HorizontalPodAutoscaler", name)["spec"]
        assert scaler["scaleTargetRef"]["name"] == name
        assert scaler["minReplicas"] >= 2
        # It would be set back at every apply.
        assert "replicas" not in find(objects, "Deployment", name)["spec"]
        [metric] = [one["pods"]["metric"]["name"] for one in scaler["metrics"]]
        assert metric in adapted()


def adapted() -> dict[str, str]:
    """The metrics that prometheus-adapter makes, with their queries."""
    [rules] = read(FOLDER / "autoscaling" / "prometheus-adapter.yaml")
    return {rule["name"]["as"]: rule["metricsQuery"] for rule in rules["rules"]["custom"]}


def test_the_adapter_asks_for_metrics_that_there_are() -> None:
    known = families()
    for query in adapted().values():
        for name in re.findall(r"unmute_[a-z_|()]+[a-z]", query):
            assert [made for made in known if re.fullmatch(name, made)], name


def test_a_gpu_for_each_model() -> None:
    objects = build(FOLDER / "overlays" / "gpu")
    for name, pod in pods(objects):
        [container] = pod["containers"]
        assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if name in MODELS else None)
        assert ("persistentVolumeClaim" in str(pod["volumes"])) is (name in MODELS)
