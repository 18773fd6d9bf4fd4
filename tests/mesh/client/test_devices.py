"""The microphone and the loudspeaker, with a PortAudio that the test plays."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mesh.client.devices import Loudspeaker, Microphone, NoAudioDeviceError, check_loudspeaker
from tests.mesh.commands.scripted import unmute


class Stream:
    """Keeps its callback, for the test to call as the device would."""

    def __init__(self, **options: Any) -> None:
        self.callback = options["callback"]
        self.latency = 0.0
        self.running = False

    def start(self) -> None:
        self.running = True

    def close(self) -> None:
        self.running = False


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("sounddevice")

    class PortAudioError(Exception):
        pass

    module.PortAudioError = PortAudioError  # type: ignore[attr-defined]
    module.InputStream = module.OutputStream = Stream  # type: ignore[attr-defined]
    module.query_devices = lambda kind: {"default_samplerate": 48_000.0}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def heard(speaker: Loudspeaker, frames: int) -> list[float]:
    out = np.full((frames, 1), 9, np.float32)
    speaker._stream.callback(out, frames, None, None)
    samples: list[float] = out[:, 0].tolist()
    return samples


def test_the_microphone_gives_what_was_captured_and_never_waits(sounddevice: ModuleType) -> None:
    with Microphone() as microphone:
        assert microphone.rate == 48_000
        assert len(microphone.read()) == 0
        for value in (1, 2):
            microphone._stream.callback(np.full((3, 1), value, np.float32), 3, None, None)
        assert microphone.read().tolist() == [1, 1, 1, 2, 2, 2]
    assert not microphone._stream.running


def test_the_loudspeaker_plays_in_order_and_then_silence(sounddevice: ModuleType) -> None:
    with Loudspeaker(24_000) as speaker:
        speaker.write(np.array([1, 2, 3], np.float32))
        speaker.write(np.array([4], np.float32))
        assert heard(speaker, 2) == [1, 2]
        assert heard(speaker, 4) == [3, 4, 0, 0]


def test_a_slow_device_is_kept_up_with_by_leaving_silence_out(sounddevice: ModuleType) -> None:
    with Loudspeaker(24_000, live=True) as speaker:
        for _ in range(50):
            speaker.write(np.zeros(1, np.float32))
        speaker.write(np.array([5], np.float32))
        assert heard(speaker, 10) == [0, 0, 0, 0, 0, 0, 5, 0, 0, 0]


def test_no_device_is_one_clear_error(sounddevice: ModuleType) -> None:
    def nothing(kind: str) -> None:
        raise sounddevice.PortAudioError(f"no {kind}")

    sounddevice.query_devices = nothing  # type: ignore[attr-defined]
    with pytest.raises(NoAudioDeviceError, match="no microphone"):
        Microphone()
    with pytest.raises(NoAudioDeviceError, match="no loudspeaker"):
        check_loudspeaker()


@pytest.mark.parametrize("argv", [["talk"], ["say", "Hello"]])
async def test_without_the_package_a_command_says_what_to_install(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert await unmute(*argv) == 1
    errors = capsys.readouterr().err
    assert "pip install 'unmute-mesh[microphone]'" in errors
    assert errors.count("\n") == 1
