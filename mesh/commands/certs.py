"""`unmute certs`: certificates for a mesh with mTLS, of an authority made for it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from mesh.cli import Command
from mesh.names import HEALTH_NAMES
from mesh.settings import CommandSettings
from mesh.tls import WEB_SERVERS

SERVICES = (*HEALTH_NAMES, *WEB_SERVERS)
_HOST = re.compile(r"[0-9A-Za-z_.:*-]{1,253}")


class CertsSettings(CommandSettings):
    """Makes a certificate authority for development, and a certificate of it for every service and for clients.

    The authority's key is not kept: to add a certificate, make all anew with --overwrite; what runs takes them over.
    """

    model_config = SettingsConfigDict(env_prefix="UNMUTE_CERTS_")

    folder: CliPositionalArg[Path] = Field(description="Folder to put them in.")
    host: list[str] = Field([], description="A further name or address that the services are called by; repeatable.")
    days: float = Field(30.0, gt=0, le=825, description="Days until they expire.")
    overwrite: bool = Field(False, description="Replace certificates that are there already.")

    @field_validator("host")
    @classmethod
    def _is_host(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no host name and no address")
        return hosts


def hosts_of(name: str) -> tuple[str, ...]:
    """Returns what others call a service by in Docker Compose and in Kubernetes."""
    return (name, f"unmute-{name}", f"{name}.unmute", f"{name}.unmute.svc", f"{name}.unmute.svc.cluster.local")


def run(settings: CertsSettings) -> int:
    """Makes the files and prints what to set."""
    from mesh.authority import make_folder

    hosts = {name: (*hosts_of(name), *settings.host) for name in SERVICES}
    folder = settings.folder.expanduser()
    made = make_folder(folder, hosts, days=settings.days, overwrite=settings.overwrite)
    names = ", ".join(path.stem for path in made.certificates)
    sys.stdout.write(
        f"{folder}: an authority ({made.ca.name}) and certificates with keys for {names};\n"
        f"valid until {made.expires:%Y-%m-%d %H:%M} UTC. The mesh on this machine with mTLS, and a client of it:\n\n"
        f"  unmute up --tls-dir {folder}\n"
        f"  unmute talk question.wav --tls-dir {folder}\n\n"
        f"Elsewhere give each service its own files, here speech to text:\n\n"
        f"  UNMUTE_TLS_CERT={folder / 'stt.pem'}\n"
        f"  UNMUTE_TLS_KEY={folder / 'stt.key'}\n"
        f"  UNMUTE_TLS_CA={made.ca}\n"
        f"  UNMUTE_TLS_CLIENT_CA={made.ca}\n"
    )
    return 0


command = Command(help="Make certificates for a mesh with TLS.", settings=CertsSettings, run=run)
