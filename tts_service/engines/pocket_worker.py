"""A process that speaks with one Pocket TTS model: `python -m tts_service.engines.pocket_worker`.

The model is not thread-safe and does not batch, so each of several clauses at once has a process of its own.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from tts_service.engines.pocket_wire import Kind, pack

log = logging.getLogger(__name__)

_PATHS = (("weights_path",), ("flow_lm", "weights_path"), ("flow_lm", "lookup_table", "tokenizer_path"),
          ("mimi", "weights_path"))  # fmt: skip
"""Where a model's configuration names files."""


class Worker:
    """One model, its voices, and the one clause that it speaks."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        """`send` writes a message to the engine."""
        self._send = send
        self._model: Any = None
        self._states: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._stops: dict[int, threading.Event] = {}

    def load(self, model: str, folder: str | None, voice: str) -> None:
        """Loads a model and speaks a word, which makes all that is made on first use.

        Args:
            model: name of a released model, unless `folder` has one.
            folder: where config.yaml and what it names lie.
            voice: the default voice.
        """
        import pocket_tts

        if folder is None:
            self._model = pocket_tts.TTSModel.load_model(language=model)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                self._model = pocket_tts.TTSModel.load_model(config=_absolute(Path(folder), Path(scratch)))
        for _ in self._generate(voice, "Hello.", None, threading.Event()):
            pass
        ready = {"sample_rate": self._model.sample_rate, "can_clone": self._model.has_voice_cloning}
        self._send(pack(Kind.READY, payload=json.dumps(ready).encode()))

    def expect(self, job: int) -> None:
        """Notes a clause that will be spoken, so that it can be stopped before it begins."""
        with self._lock:
            self._stops[job] = threading.Event()

    def stop(self, job: int) -> None:
        """Stops a clause, from any thread."""
        with self._lock:
            stop = self._stops.get(job)
        if stop is not None:
            stop.set()

    def speak(self, job: int, voice: str, text: str, seed: int | None) -> None:
        """Speaks a clause and sends its audio as it comes."""
        stop = self._stops[job]
        try:
            for samples in self._generate(voice, text, seed, stop):
                if not stop.is_set():
                    self._send(pack(Kind.AUDIO, job, samples.astype("<f4").tobytes()))
            self._send(pack(Kind.DONE, job))
        except Exception as error:
            # The text is not logged: it is private.
            log.exception("a clause of %d characters could not be spoken", len(text))
            self._send(pack(Kind.FAILED, job, f"{type(error).__name__}: {error}".encode()))
        finally:
            with self._lock:
                del self._stops[job]

    def _generate(self, voice: str, text: str, seed: int | None, stop: threading.Event) -> Any:
        import torch

        state = self._states.get(voice)
        if state is None:
            source: Any = Path(voice) if os.sep in voice else voice
            state = self._states[voice] = self._model.get_state_for_audio_prompt(source)
        if seed is not None:
            torch.manual_seed(seed)
        # How many frames are decoded at once depends on the clock, and the last bits of the audio on how many.
        self._model.max_decoder_frames_per_call = 0 if seed is None else 1
        for chunk in self._model.generate_audio_stream(state, text, stop=stop):
            yield chunk.clamp(-1, 1).numpy()


def _absolute(folder: Path, scratch: Path) -> Path:
    """Returns a copy of the folder's config.yaml whose file names are found from anywhere."""
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    for *parents, key in _PATHS:
        table: Any = config
        for parent in parents:
            table = (table or {}).get(parent)
        name = (table or {}).get(key)
        if isinstance(name, str) and "://" not in name:
            table[key] = str((folder / name).resolve())
    path = scratch / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _listen(lines: BinaryIO, worker: Worker, jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Takes what the engine says; its end is ours."""
    for line in lines:
        message = json.loads(line)
        if "stop" in message:
            worker.stop(message["stop"])
        else:
            worker.expect(message["job"])
            jobs.put(message)
    os._exit(0)


def main() -> int:
    """Loads the model that the first line names and speaks until standard input ends."""
    # Whatever prints must not get between the messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    # Its warnings quote the text, which is private.
    logging.getLogger("pocket_tts").setLevel(logging.ERROR)

    def send(message: bytes) -> None:
        out.write(message)
        out.flush()

    worker = Worker(send)
    first = json.loads(sys.stdin.buffer.readline())
    try:
        worker.load(first["model"], first["folder"], first["voice"])
    except Exception as error:  # noqa: BLE001 - told to the engine, which tells the user
        send(pack(Kind.FAILED, 0, f"{type(error).__name__}: {error}".encode()))
        return 1
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, worker, jobs), daemon=True).start()
    while True:
        job = jobs.get()
        worker.speak(job["job"], job["voice"], job["text"], job["seed"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BrokenPipeError, KeyboardInterrupt):
        # The engine has gone, or ends us.
        os._exit(0)
