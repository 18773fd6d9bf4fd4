"""What a weight is and where it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from mesh.errors import InvalidArgumentError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PINNED = re.compile(r"(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9.!+_-]+)")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w./-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a weight comes from, read from its text."""

    kind: str
    """One of pypi, hf, file, installed."""
    container: str
    """What holds the file: `NAME==VERSION`, `owner/repo[@revision]` or a distribution's name; empty for file."""
    path: str
    """The file in the container; for file, its path on this machine."""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Reads `pypi:NAME==VERSION#path`, `hf:owner/repo[@revision]#path`, `installed:NAME#path` or `file:PATH`.

        Raises:
            InvalidArgumentError: not one of these, or a path that leaves its container.
        """
        kind, _, rest = text.partition(":")
        if kind == "file":
            if not rest:
                raise InvalidArgumentError("source", f"{text!r} names no file")
            return cls("file", "", rest)
        patterns = {"pypi": _PINNED, "hf": _REPOSITORY, "installed": _DISTRIBUTION}
        if kind not in patterns:
            raise InvalidArgumentError("source", f"{text!r} is none of pypi:, hf:, installed:, file:")
        container, _, path = rest.partition("#")
        if not patterns[kind].fullmatch(container):
            raise InvalidArgumentError("source", f"{text!r} does not name what holds the file")
        return cls(kind, container, check_relative(path, "source"))


@dataclass(frozen=True, slots=True)
class Weight:
    """One file of weights, pinned by size and SHA-256.

    Raises:
        InvalidArgumentError: a name or a source that cannot be.
    """

    name: str
    """Its path in the store, as `folder/file`. Files that an engine loads as a folder share theirs."""
    source: str
    """Where it comes from; see `Source.parse`."""
    size: int
    """Bytes of the file."""
    sha256: str
    """Hash of the file, 64 lower-case hexadecimal digits."""
    licence: str
    """Licence of the weight, an SPDX expression."""
    origin: str = ""
    """Who made it and where it was published, for attribution."""
    optional: bool = False
    """Only fetched when an engine asks for it."""
    download_size: int = 0
    """Bytes of what is downloaded to get it (the whole wheel); 0 if unknown. Only for progress and disk space."""

    def __post_init__(self) -> None:
        """Checks every field, so that a wrong pin shows when it is written and not when it is fetched."""
        check_relative(self.name, "name")
        Source.parse(self.source)
        if self.size <= 0:
            raise InvalidArgumentError("size", f"must be above 0 for {self.name}")
        if not _SHA256.fullmatch(self.sha256):
            raise InvalidArgumentError("sha256", f"must be 64 lower-case hexadecimal digits for {self.name}")
        if not self.licence:
            raise InvalidArgumentError("licence", f"must be given for {self.name}")

    @property
    def parsed_source(self) -> Source:
        """The source, read."""
        return Source.parse(self.source)


def check_relative(path: str, field: str) -> str:
    """Returns `path` if it is a relative POSIX path that stays where it is joined.

    Raises:
        InvalidArgumentError: it is empty, absolute, or has parts such as `..`.
    """
    pure = PurePosixPath(path)
    unsafe = pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or any(map(_hidden, pure.parts))
    if not path or unsafe or str(pure) != path:
        raise InvalidArgumentError(field, f"{path!r} must be a plain relative path")
    return path


def _hidden(part: str) -> bool:
    """Dotted names are the store's own: locks, stamps, temporary files."""
    return part.startswith(".")
