"""Language-model engines; each imports its heavy packages itself."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from mesh.errors import FailedPreconditionError

if TYPE_CHECKING:
    from llm_service.engine import Engine
    from llm_service.settings import LlmSettings

_GROUP = "unmute.llm_engines"


def create_engine(settings: LlmSettings) -> Engine:
    """Returns the engine that `settings.engine` names; nothing is loaded yet.

    Raises:
        FailedPreconditionError: no such engine, or its packages are not installed.
    """
    found = entry_points(group=_GROUP)
    if settings.engine not in found.names:
        raise FailedPreconditionError(f"--engine: there is no {settings.engine!r}; there is {', '.join(found.names)}")
    try:
        create: Callable[[LlmSettings], Engine] = found[settings.engine].load()
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(f"engine {settings.engine!r} needs the package {error.name!r}") from error
    return create(settings)
