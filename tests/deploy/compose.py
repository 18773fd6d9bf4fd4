"""compose.yaml as Docker Compose reads it, and its services as plain processes of this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mesh.names import PORTS
from tests.deploy.needs import program
from tests.system.mesh import BIN, ROOT, free_port

FILE = ROOT / "compose.yaml"
PAGE = "ui"
STOP_SECONDS = 20.0


def interpolate(text: str, environment: dict[str, str]) -> str:
    """Fills in `${NAME:-default}`."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: environment.get(match[1]) or match[2], text)


def load(environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Returns the file with its anchors merged and its variables filled in."""
    found: dict[str, Any] = yaml.safe_load(interpolate(FILE.read_text(encoding="utf-8"), environment or {}))
    return found


def default_profiles() -> list[str]:
    """Returns the profiles of a plain `docker compose up`, which the file .env beside it names."""
    [line] = [line for line in (ROOT / ".env").read_text().splitlines() if line.startswith("COMPOSE_PROFILES=")]
    return line.partition("=")[2].split(",")


def services_of(model: dict[str, Any], *profiles: str) -> dict[str, dict[str, Any]]:
    """Returns the services that run with these profiles."""
    services: dict[str, dict[str, Any]] = model["services"]
    return {
        name: service
        for name, service in services.items()
        if not service.get("profiles") or set(service["profiles"]) & set(profiles)
    }


def names_on(service: dict[str, Any], name: str, network: str) -> set[str]:
    """Returns what a service is called on a network; empty if it is not on it."""
    networks = service["networks"]
    if network not in networks:
        return set()
    aliases = (networks[network] or {}).get("aliases", []) if isinstance(networks, dict) else []
    return {name, *aliases}


@dataclass
class Processes:
    """The services of a profile, each with its command and environment; their names stand for this machine."""

    folder: Path
    services: dict[str, dict[str, Any]]
    tls: Path = Path("/nowhere")
    """Folder of the edge's certificate, if it shall have one."""
    replicas: tuple[int, ...] = ()
    """Ports of further orchestrators for the proxy."""

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in PORTS}
        self.edge, self.inside, self.https, self.admin, self.metrics = (free_port() for _ in range(5))
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, text: str) -> str:
        """Returns a command's or a variable's text with the addresses of this machine."""
        for name, usual in PORTS.items():
            text = re.sub(rf"(dns:///)?\b{name}:{usual}\b", f"127.0.0.1:{self.ports[name]}", text)
            text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{self.ports[name]}")
        text = text.replace("proxy:8081", f"127.0.0.1:{self.inside}")
        return text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - replaced, not bound

    def environment(self, name: str) -> dict[str, str]:
        """Returns the variables of a service's container; its own ports are free ones."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("UNMUTE_")}
        own = {key: self.here(value) for key, value in self.services[name].get("environment", {}).items()}
        metrics = f"UNMUTE_{name.upper()}_METRICS_PORT"
        return {
            **inherited,
            **own,
            **({metrics: str(free_port())} if metrics in own else {}),
            f"UNMUTE_{name.upper()}_PORT": str(self.ports.get(name, 0)),
            f"UNMUTE_{name.upper()}_ADDRESS": f"127.0.0.1:{self.ports.get(name, 0)}",
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, name: str) -> None:
        """Starts a service's command."""
        if name == "proxy":
            self.start_proxy()
            return
        command = [self.here(word) for word in self.services[name]["command"]]
        assert command[0] == "unmute"
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "mesh", *command[1:]],
                cwd=self.folder,
                env=self.environment(name),
                stdout=log,
                stderr=log,
            )

    def start_proxy(self) -> None:
        """Starts the proxy by its own script, its files in another folder and with the addresses of this machine."""
        folder = self.folder / "envoy"
        folder.mkdir()
        for path in (ROOT / "deploy" / "envoy").iterdir():
            text = path.read_text(encoding="utf-8").replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - replaced, not bound
            for name, usual in PORTS.items():
                text = text.replace(
                    f"address: {name}, port_value: {usual}", f"address: 127.0.0.1, port_value: {self.ports[name]}"
                )
            for usual, port in (
                (8080, self.edge),
                (8081, self.inside),
                (8443, self.https),
                (9901, self.admin),
                (9902, self.metrics),
            ):
                text = text.replace(f"port_value: {usual}", f"port_value: {port}")
            text = text.replace("filename: /etc/envoy-tls", f"filename: {self.tls}")
            text = text.replace("path: /etc/envoy-tls", f"path: {self.tls}")
            [first] = re.findall(rf"\n *- endpoint: .*: {self.ports['orchestrator']}}}}}}}", text) or [""]
            more = [first.replace(str(self.ports["orchestrator"]), str(port)) for port in self.replicas]
            (folder / path.name).write_text(text.replace(first, "".join([first, *more])) if first else text)
        # A base id of its own: Envoys of one machine share memory by it.
        shim = folder / "bin" / "envoy"
        shim.parent.mkdir()
        shim.write_text(f'#!/bin/sh\nexec {program("envoy")} --base-id {self.edge} --concurrency 1 "$@"\n')
        shim.chmod(0o755)
        [bash, script] = self.services["proxy"]["entrypoint"]
        assert script == "/etc/envoy/start.sh"
        with (self.folder / "proxy.log").open("wb") as log:
            self.running["proxy"] = subprocess.Popen(
                [program(bash), folder / "start.sh"],
                cwd=self.folder,
                env=self.proxy_environment(),
                stdout=log,
                stderr=log,
            )

    def proxy_environment(self) -> dict[str, str]:
        """Returns the variables of the proxy's container, for this machine."""
        path = f"{self.folder / 'envoy' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        own: dict[str, str] = self.services["proxy"]["environment"]
        return {**os.environ, **own, "ADMIN_PORT": str(self.admin), "TLS_FOLDER": str(self.tls), "PATH": path}

    def is_healthy(self, name: str) -> bool:
        """Runs a service's health check."""
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        if name == "proxy":
            command[-2] = str(self.folder / "envoy" / "start.sh")
            return (
                subprocess.run(command, env=self.proxy_environment(), capture_output=True, check=False).returncode == 0
            )
        command = [self.here(word) for word in command]
        if command[0] == "unmute":
            command[:1] = [sys.executable, "-m", "mesh"]
        done = subprocess.run(command, env=self.environment(name), capture_output=True, check=False)
        return done.returncode == 0

    def wait_until_healthy(self, seconds: float) -> None:
        """Returns when every health check has passed; each look takes its own time."""
        deadline = time.monotonic() + seconds
        waiting = set(self.services)
        while waiting:
            waiting -= {name for name in waiting if self.is_healthy(name)}
            for name, process in self.running.items():
                assert process.poll() is None, f"{name} ended:\n{(self.folder / f'{name}.log').read_text()}"
            assert time.monotonic() < deadline, f"not healthy: {waiting}"

    def stop(self) -> dict[str, int]:
        """Stops all as Docker does; returns the exit codes."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        try:
            return {name: process.wait(STOP_SECONDS) for name, process in self.running.items()}
        finally:
            for process in self.running.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()
