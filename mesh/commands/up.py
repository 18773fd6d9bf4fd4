"""`unmute up`: the whole mesh on this machine, each service a process of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from mesh.cli import Command
from mesh.commands import gpus
from mesh.errors import MeshError
from mesh.logs import LogFormat
from mesh.names import HEALTH_NAMES, METRICS_PORTS, PORTS, split_names
from mesh.settings import CommandSettings, LogLevel
from mesh.tls import folder_environment, from_folder

if TYPE_CHECKING:
    from mesh.supervisor import Child

# In the order of a conversation, which is also the order of the display.
ORDER = ("stt", "tts", "llm", "orchestrator")
PAGE = "ui"
# In the order of their ports after a base port.
_BY_PORT = ("orchestrator", "stt", "tts", "llm", PAGE)
REPLICA_STEP = 10
"""Ports between two processes of a service."""
DRAIN_SECONDS = 2.0
PROBE_SECONDS = 1.0


class UpSettings(CommandSettings):
    """Starts the whole mesh on this machine; every service also reads its own UNMUTE_<SERVICE>_ variables."""

    host: str = Field(default="127.0.0.1", description="Address that every service listens on.")
    base_port: int | None = Field(
        default=None, ge=1, le=65531, description="Port of the orchestrator; stt, tts, llm and ui get the next four."
    )
    orchestrator_port: int = Field(
        default=PORTS["orchestrator"], ge=1, le=65535, description="Port of the orchestrator."
    )
    stt_port: int = Field(default=PORTS["stt"], ge=1, le=65535, description="Port of speech to text.")
    tts_port: int = Field(default=PORTS["tts"], ge=1, le=65535, description="Port of text to speech.")
    llm_port: int = Field(default=PORTS["llm"], ge=1, le=65535, description="Port of the language model.")
    ui_port: int = Field(default=PORTS[PAGE], ge=1, le=65535, description="Port of the page.")
    ui_host: str | None = Field(default=None, description="Address that the page listens on. Unset: as the services.")
    page: bool = Field(default=True, description="Serve the page too, if what it needs is installed.")
    stt_engine: str | None = Field(default=None, description="Engine of speech to text. Unset: the service's default.")
    tts_engine: str | None = Field(default=None, description="Engine of text to speech. Unset: the service's default.")
    llm_engine: str | None = Field(
        default=None, description="Engine of the language model. Unset: the service's default."
    )
    stt_python: str | None = Field(
        default=None, description="Python of another environment, to run speech to text with. Unset: this one."
    )
    tts_python: str | None = Field(
        default=None, description="Python of another environment, to run text to speech with. Unset: this one."
    )
    llm_python: str | None = Field(
        default=None, description="Python of another environment, to run the language model with. Unset: this one."
    )
    stt_replicas: int = Field(
        default=1, ge=1, le=64, description="Processes of speech to text; each further one listens 10 ports higher."
    )
    tts_replicas: int = Field(default=1, ge=1, le=64, description="Processes of text to speech, likewise.")
    llm_replicas: int = Field(default=1, ge=1, le=64, description="Processes of the language model, likewise.")
    model: str | None = Field(default=None, description="Language model, as `unmute llm --model` takes it.")
    gpu: int | None = Field(
        default=None,
        description="Run Kyutai's models and vLLM on 1 NVIDIA GPU that they share, or on 3, a GPU each, with what fits "
        "into the memory; engines named by other flags, and variables that are set, stay as they are.",
    )
    only: str = Field(default="", description="Start only these services, separated by commas.")
    tls_dir: Path | None = Field(
        default=None, description="Folder made by `unmute certs`: the whole mesh with mTLS, and the page with HTTPS."
    )
    metrics: bool = Field(default=False, description="Serve each one's Prometheus metrics, on the ports 9460 to 9464.")
    metrics_base_port: int | None = Field(
        default=None,
        ge=1,
        le=65531,
        description="The same from this port on: that of the orchestrator; stt, tts, llm and ui get the next four.",
    )
    log_level: LogLevel | None = Field(default=None, description="Least severe message that the services log.")
    log_format: LogFormat | None = Field(default=None, description="How the services log. Unset: plain lines.")

    @field_validator("only")
    @classmethod
    def _known(cls, value: str) -> str:
        known = (*ORDER, PAGE)
        unknown = [name for name in split_names(value) if name not in known]
        if unknown:
            raise ValueError(f"no such service: {', '.join(unknown)} (there are {', '.join(known)})")
        return value

    @field_validator("gpu")
    @classmethod
    def _is_preset(cls, value: int | None) -> int | None:
        if value not in (None, *gpus.COUNTS):
            raise ValueError("1 (one GPU for all) or 3 (a GPU each)")
        return value

    @property
    def services(self) -> tuple[str, ...]:
        """Short names of what to start."""
        if wanted := split_names(self.only):
            return tuple(name for name in (*ORDER, PAGE) if name in wanted)
        return (*ORDER, PAGE) if self.page and page_is_installed() else ORDER

    def replicas(self, name: str) -> tuple[str, ...]:
        """Returns the names of a service's processes: `stt`, `stt-2` and so on."""
        count: int = getattr(self, f"{name}_replicas", 1)
        return (name, *(f"{name}-{number}" for number in range(2, count + 1)))

    @property
    def processes(self) -> tuple[str, ...]:
        """Names of the processes to start; all that is asked by name takes these."""
        return tuple(process for name in self.services for process in self.replicas(name))

    def listen_host(self, name: str) -> str:
        """Returns the address that a service listens on."""
        return self.ui_host if name == PAGE and self.ui_host else self.host

    def port(self, name: str) -> int:
        """Returns the port of a service."""
        kind, offset = _kind(name), _offset(name)
        if self.base_port is not None:
            return self.base_port + _BY_PORT.index(kind) + offset
        port: int = getattr(self, f"{kind}_port")
        return port + offset

    def metrics_port(self, name: str) -> int | None:
        """Returns the port of a service's metrics; None if they are not served."""
        kind, offset = _kind(name), _offset(name)
        if self.metrics_base_port is not None:
            return self.metrics_base_port + _BY_PORT.index(kind) + offset
        return METRICS_PORTS[kind] + offset if self.metrics else None

    def python(self, name: str) -> str:
        """Returns the Python that runs a service: engines whose packages contradict each other live apart."""
        chosen: str | None = getattr(self, f"{_kind(name)}_python", None)
        return sys.executable if chosen is None else str(Path(chosen).expanduser())

    def address(self, name: str) -> str:
        """Returns where a service can be reached from this machine."""
        listen = self.listen_host(name)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)  # noqa: S104 - compared, not bound
        return f"[{host}]:{self.port(name)}" if ":" in host else f"{host}:{self.port(name)}"


def run(settings: UpSettings) -> int:
    """Runs the mesh until Ctrl-C or SIGTERM."""
    settings, environments = with_gpus(settings)
    for name in settings.processes:
        if shutil.which(settings.python(name)) is None:
            raise MeshError(f"--{_kind(name)}-python: there is no program {settings.python(name)}")
        _check_free(name, settings.listen_host(name), settings.port(name))
        if (metrics_port := settings.metrics_port(name)) is not None:
            _check_free(f"{name}'s metrics", "127.0.0.1", metrics_port)
        if settings.tls_dir is not None:
            from_folder(settings.tls_dir.expanduser(), _kind(name))[0].read()
    return asyncio.run(_supervise(settings, environments))


def with_gpus(settings: UpSettings) -> tuple[UpSettings, dict[str, dict[str, str]]]:
    """Returns the settings with the engines of `--gpu` filled in, and variables for services by name.

    Raises:
        MeshError: there is no such GPU, or an engine is not installed.
    """
    if settings.gpu is None:
        return settings, {}
    changed: dict[str, str] = {}
    environments: dict[str, dict[str, str]] = {}
    for name, preset in gpus.make_presets(settings.gpu, gpus.find_gpus()).items():
        if len(settings.replicas(name)) > 1:
            raise MeshError(f"--{name}-replicas: --gpu gives the memory of a GPU to one process of each service")
        if name in settings.services and getattr(settings, f"{name}_engine") is None:
            chosen = getattr(settings, f"{name}_python") is not None
            changed[f"{name}_engine"] = preset.engine
            changed[f"{name}_python"] = gpus.find_python(preset, settings.python(name), chosen=chosen)
            environments[name] = gpus.unset(preset.environment)
    return settings.model_copy(update=changed), environments


def page_is_installed() -> bool:
    """Returns whether there is a page to serve, and what it needs."""
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    from mesh.cli import GROUP

    return any(point.name == PAGE for point in entry_points(group=GROUP)) and find_spec("gradio") is not None


def arguments(name: str, settings: UpSettings) -> list[str]:
    """Returns the flags of one service."""
    flags = ["--host", settings.listen_host(name), "--port", str(settings.port(name))]
    if settings.log_level is not None:
        flags += ["--log-level", settings.log_level]
    if settings.log_format is not None:
        flags += ["--log-format", settings.log_format]
    if (metrics_port := settings.metrics_port(name)) is not None:
        flags += ["--metrics-port", str(metrics_port)]
    if name == PAGE:
        return [*flags, "--orchestrator", settings.address("orchestrator")]
    if name == "orchestrator":
        for upstream in settings.services:
            if upstream not in (PAGE, "orchestrator"):
                flags += [f"--{upstream}", ",".join(map(settings.address, settings.replicas(upstream)))]
        return flags
    engine = getattr(settings, f"{_kind(name)}_engine")
    if engine is not None:
        flags += ["--engine", engine]
    if _kind(name) == "llm" and settings.model is not None:
        flags += ["--model", settings.model]
    return flags


def make_child(name: str, settings: UpSettings, more: Mapping[str, str]) -> Child:
    """Returns how a service is run; `more` is added to its environment."""
    from mesh.channels import HealthState, check_health, open_channel
    from mesh.http import answers_http
    from mesh.supervisor import Child
    from mesh.tls import LOCAL_NAME, client_tls

    kind, folder = _kind(name), settings.tls_dir
    tls = client_tls(folder)
    https = folder is not None or bool(os.environ.get("UNMUTE_UI_TLS_CERT"))

    async def probe() -> bool:
        if name == PAGE:
            return await answers_http(settings.address(name), "/healthz", PROBE_SECONDS, https=https)
        # A new channel each time: one that is used again would wait between its attempts to connect.
        async with open_channel(settings.address(name), tls=tls, name=LOCAL_NAME) as channel:
            health = await check_health(channel, HEALTH_NAMES[kind], PROBE_SECONDS)
        return health.state is HealthState.SERVING

    environment = {
        # The services share the cores of one machine.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONUNBUFFERED": "1",
        f"UNMUTE_{kind.upper()}_DRAIN_SECONDS": str(DRAIN_SECONDS),
        **more,
    }
    if folder is not None:
        environment |= folder_environment(folder.expanduser().absolute(), kind)
    command = [settings.python(name), "-m", "mesh", kind, *arguments(name, settings)]
    return Child(name, command, probe, environment)


async def _supervise(settings: UpSettings, environments: Mapping[str, Mapping[str, str]]) -> int:
    from mesh.commands.display import make_display
    from mesh.supervisor import Supervisor

    addresses = {name: settings.address(name) for name in settings.processes}
    with make_display(addresses, make_hint(settings)) as display:
        children = [make_child(name, settings, environments.get(_kind(name), {})) for name in settings.processes]
        supervisor = Supervisor(children, display)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            display.line("up", "stopping")
            supervisor.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        return await supervisor.run()


def make_hint(settings: UpSettings) -> str:
    """Returns what to do when the mesh is up."""
    if "orchestrator" not in settings.services:
        return "All services are up. Ctrl-C stops them."
    usual = settings.address("orchestrator") == f"127.0.0.1:{PORTS['orchestrator']}"
    flag = "" if usual else f" --orchestrator {settings.address('orchestrator')}"
    if settings.tls_dir is not None:
        flag += f" --tls-dir {settings.tls_dir}"
    terminal = f"unmute talk question.wav{flag}"
    scheme = "http" if settings.tls_dir is None else "https"
    if PAGE in settings.services:
        return (
            f"The mesh is up. Talk to it in a browser, {scheme}://{settings.address(PAGE)}, or a terminal: {terminal}"
        )
    return f"The mesh is up. Talk to it from another terminal: {terminal}"


def _kind(name: str) -> str:
    """The service that a process belongs to: `stt` of `stt-2`."""
    return name.partition("-")[0]


def _offset(name: str) -> int:
    """How much higher its ports are than those of the service's first process."""
    return REPLICA_STEP * (int(name.partition("-")[2] or 1) - 1)


def _check_free(name: str, host: str, port: int) -> None:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MeshError(f"port {host}:{port} of {name} is already in use") from error
        raise MeshError(f"{name} cannot listen on {host}:{port}: {error.strerror or error}") from error


command = Command(help="Start the whole mesh on this machine.", settings=UpSettings, run=run)
