"""llama.cpp's own server, in this process; the only module that knows xllamacpp."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mesh.errors import UnavailableError

_log = logging.getLogger(__name__)

# Tokens of prompt that are read in one go. Nothing can interrupt a piece, and everyone's next token waits for it:
# 16 take some 80 ms of one core, and larger pieces are hardly quicker per token.
_PIECE_TOKENS = 16

# States of conversations that lost their slot are not kept elsewhere: slots are pinned, so nothing would read them.
_HOST_CACHE_MIB = 0

_HTTP_SECONDS = 10.0

Chunk = dict[str, Any]


class Completion:
    """One call of llama.cpp, running in a thread. `chunks` gives what it says; an exception in it is the last item."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        """Calls `on_done` in the loop once llama.cpp has returned, before the reader of `chunks` learns it."""
        self.chunks: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()
        """Ends with None."""
        self.done = asyncio.Event()
        """llama.cpp has returned: its slot is free."""
        self.late_chunks = 0
        """Chunks that still came after `cancel`."""
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """`cancel` was called."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Makes it end after the token, or the piece of prompt, in the making; wakes the reader of `chunks` now."""
        self._cancelled.set()
        self.chunks.put_nowait(None)

    def run(self, native: Any, body: dict[str, Any]) -> None:
        """Runs in the thread until llama.cpp returns."""
        last: Exception | None = None
        try:
            if not self.cancelled:
                native.handle_chat_completions(body, self._receive)
        except Exception as error:  # noqa: BLE001 - whatever the binding raises is the reader's to see
            last = error
        self._post(self._finish, last)

    def _receive(self, chunk: Chunk) -> bool:
        """Takes a chunk in the thread; True ends the call. Must not raise: the binding would swallow it."""
        if self.cancelled:
            self.late_chunks += 1
            return True
        return not self._post(self.chunks.put_nowait, chunk)

    def _finish(self, error: Exception | None) -> None:
        self._on_done()
        self.done.set()
        self.chunks.put_nowait(error)

    def _post(self, function: Any, *args: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop is closed; there is nobody left to tell.
            return False
        return True


class LlamaServer:
    """A loaded model. Everything but `run` blocks: call it in a thread."""

    def __init__(self, path: Path, *, context_tokens: int, slots: int, threads: int) -> None:
        """Loads and warms the model.

        Args:
            path: a GGUF file.
            context_tokens: context of each slot, in tokens.
            slots: calls that run at once.
            threads: threads of computation.

        Raises:
            UnavailableError: no such file, not a model, or llama.cpp is not installed.
        """
        if not path.is_file():
            raise UnavailableError(f"model file {path} does not exist")
        # llama.cpp always listens; a socket in a private folder is a door for nobody else.
        self._folder = Path(tempfile.mkdtemp(prefix="unmute-llm-"))
        self._socket = str(self._folder / "llama.sock")
        self._pool = ThreadPoolExecutor(slots + 2, thread_name_prefix="llama-cpp")
        try:
            self._native = self._load(path, context_tokens, slots, threads)
        except (ImportError, RuntimeError, ValueError) as error:
            self._pool.shutdown()
            shutil.rmtree(self._folder, ignore_errors=True)
            if isinstance(error, ImportError):
                raise UnavailableError("the llama.cpp engine needs the package xllamacpp") from error
            raise UnavailableError(f"llama.cpp cannot load {path}: it is no GGUF model that it knows") from error

    def _load(self, path: Path, context_tokens: int, slots: int, threads: int) -> Any:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context_tokens * slots
        params.n_parallel = slots
        params.n_batch = params.n_ubatch = max(_PIECE_TOKENS, slots)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = _HOST_CACHE_MIB
        params.cache_idle_slots = False
        params.ctx_shift = False
        params.use_jinja = True
        # A conversation that ends with the model's own words gets a new message, not a longer one.
        params.prefill_assistant = False
        params.slot_save_path = f"{self._folder}/"
        params.hostnames = [self._socket]
        params.n_threads_http = 1
        params.ui = False
        params.verbosity = -1
        return xllamacpp.Server(params)

    def properties(self) -> dict[str, Any]:
        """Returns what llama.cpp says of the model: its context, its chat template and what that can do."""
        return self._http("GET", "/props")

    def copy_slot(self, source: int, target: int) -> None:
        """Gives slot `target` what idle slot `source` has read. Raises UnavailableError if it fails."""
        name = f"slot-{source}-{target}"
        try:
            self._http("POST", f"/slots/{source}?action=save", {"filename": name})
            self._http("POST", f"/slots/{target}?action=restore", {"filename": name})
        finally:
            # It holds a conversation; it must not stay.
            (self._folder / name).unlink(missing_ok=True)

    async def in_thread(self, function: Any, *args: Any) -> Any:
        """Runs one of the blocking methods."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def run(self, body: dict[str, Any], on_done: Callable[[], None]) -> Completion:
        """Starts a chat completion; `body` must name a slot that is free. `on_done`: see `Completion`."""
        completion = Completion(on_done)
        asyncio.get_running_loop().run_in_executor(self._pool, completion.run, self._native, body)
        return completion

    def close(self) -> None:
        """Waits for the calls, which must have been cancelled, and frees the model."""
        self._pool.shutdown(wait=True)
        # The binding stops its threads when the last reference goes.
        self._native = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _http(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = _UnixConnection(self._socket)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            found: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnavailableError(f"llama.cpp does not answer: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise UnavailableError(f"llama.cpp refused {path}")
        return found


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_HTTP_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_HTTP_SECONDS)
        self.sock.connect(self._path)
