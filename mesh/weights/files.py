"""Hashing, stamping and locking of files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mesh.weights.spec import Weight

_POLL = 0.1


def matches(path: Path, weight: Weight) -> bool:
    """Reads the whole file: whether it has the pinned size and hash."""
    try:
        if path.stat().st_size != weight.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == weight.sha256
    except OSError:
        return False


class Stamps:
    """Remembers which files were verified, so that 100 MB are not hashed at every start.

    A stamp holds the size, modification time and status-change time of the file when its hash was right. Whoever
    writes to the file changes at least one of them; if any differs, the file is hashed again. What a stamp cannot see
    is a disk that rots without a write: `WeightStore.check` always hashes.
    """

    def __init__(self, folder: Path) -> None:
        """Keeps stamps in `folder`, or only in memory where it cannot be written."""
        self._folder = folder
        self._known: dict[Path, dict[str, object]] = {}

    def holds(self, path: Path, weight: Weight) -> bool:
        """Whether `path` is unchanged since it was found to be `weight`."""
        try:
            now = self._signature(path, weight)
        except OSError:
            return False
        if self._known.get(path) == now:
            return True
        try:
            kept = json.loads(self._file(path).read_text())
        except (OSError, ValueError):
            return False
        if kept != now:
            return False
        self._known[path] = now
        return True

    def add(self, path: Path, weight: Weight) -> None:
        """Records that `path` has just been found to be `weight`."""
        signature = self._signature(path, weight)
        self._known[path] = signature
        file = self._file(path)
        # A read-only store is fine: its files are hashed at each start instead.
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(signature))
            draft.replace(file)

    def drop(self, path: Path) -> None:
        """Forgets `path`."""
        self._known.pop(path, None)
        with contextlib.suppress(OSError):
            self._file(path).unlink(missing_ok=True)

    def _file(self, path: Path) -> Path:
        return self._folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"

    @staticmethod
    def _signature(path: Path, weight: Weight) -> dict[str, object]:
        stat = path.stat()
        return {
            "path": str(path),
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "ctime_ns": stat.st_ctime_ns,
            "sha256": weight.sha256,
        }


@contextlib.contextmanager
def locked(path: Path, check: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file `path` against other threads and processes; the kernel frees it when a process dies.

    `check` is called while waiting and may raise to give up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check()
                time.sleep(_POLL)
        yield
