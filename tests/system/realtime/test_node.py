"""The official packages for Node, unchanged: `openai` over TLS with a key, and `@openai/agents-realtime`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.audio import read_audio_file, write_wav
from tests.system.mesh import BIN, ROOT, Mesh, free_port, running, words
from tests.system.realtime.caller import from_pcm
from tests.system.realtime.conftest import Tooled, until_answering

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

RATE = 24_000
SOURCES = Path(__file__).parent / "node"
BEES = {"bee", "bees", "honey", "honeycomb", "nectar", "pollen", "hive", "flowers"}


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clients and the packages that they need."""
    folder = Path(shutil.copytree(SOURCES, tmp_path_factory.mktemp("node") / "clients"))
    install = [str(BIN / "npm"), "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    subprocess.run(install, cwd=folder, env=_environment(), check=True, timeout=200)
    for name in ("question", "sky"):
        source = ROOT / ("docs" if name == "question" else "tests/data") / f"{name}.wav"
        samples = (read_audio_file(source, RATE) * 32767).astype("<i2")
        (folder / f"{name}.pcm").write_bytes(samples.tobytes())
    return folder


@pytest.fixture
def keyed(mesh: Mesh, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A gateway over HTTPS that wants the key `a-key`: its URL, and the authority that its certificate is of."""
    subprocess.run([sys.executable, "-m", "mesh", "certs", str(tmp_path)], cwd=ROOT, check=True, timeout=60)
    mesh_with_key = {"UNMUTE_API_KEYS": "a-key"}
    flags = ("--tls-cert", str(tmp_path / "gateway.pem"), "--tls-key", str(tmp_path / "gateway.key"))
    orchestrator = mesh.address("orchestrator")
    with running(
        mesh, "gateway", "--orchestrator", orchestrator, *flags, port=free_port(), environment=mesh_with_key
    ) as address:
        yield f"https://{address}/v1", tmp_path / "ca.pem"


async def test_the_sdk_talks_interrupts_truncates_and_types(
    clients: Path, keyed: tuple[str, Path], mesh: Mesh, tmp_path: Path
) -> None:
    url, authority = keyed
    await until_answering(url.removesuffix("/v1"), authority)
    found = await _run(
        clients, "sdk.mjs", url, "a-key", "question.pcm", "sky.pcm", str(tmp_path / "said"), authority=authority
    )
    assert found["errors"] == []
    assert found["cut"] == ["cancelled", "turn_detected"]
    assert found["interrupted"] == 2
    assert found["status"] == "completed"
    assert BEES & set(words(found["written"])), found
    assert len(await asyncio.to_thread(_transcribe, mesh, tmp_path / "said")) > 2


async def test_an_agent_calls_its_function_and_says_the_result(
    clients: Path, tooled: Tooled, mesh: Mesh, tmp_path: Path
) -> None:
    found = await _run(clients, "agents.mjs", tooled.socket, "question.pcm", str(tmp_path / "said"))
    assert found["errors"] == []
    assert found["asked"] == ["Paris", "Paris"]
    assert found["called"] == "completed"
    assert "sunny in Paris" in found["said"]
    assert found["cut"] == "cancelled"
    assert {"sunny", "paris"} <= set(await asyncio.to_thread(_transcribe, mesh, tmp_path / "said"))


async def _run(folder: Path, script: str, *arguments: str, authority: Path | None = None) -> dict[str, Any]:
    """Runs a client to its end and returns what it printed."""
    environment = _environment()
    if authority is not None:
        environment["NODE_EXTRA_CA_CERTS"] = str(authority)
    process = await asyncio.create_subprocess_exec(
        BIN / "node", script, *arguments, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(120):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


def _transcribe(mesh: Mesh, path: Path) -> list[str]:
    write_wav(path.with_suffix(".wav"), from_pcm(path.read_bytes()), RATE)
    done = mesh.unmute("transcribe", str(path.with_suffix(".wav")))
    return words(done.out)


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
