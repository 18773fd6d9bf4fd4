"""Finds the engines that the installed packages offer."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from mesh.errors import FailedPreconditionError, NotFoundError


def make_engine(group: str, settings: Any) -> Any:
    """Returns the engine that `settings.engine` names, made by its `create(settings)` and not started.

    Args:
        group: of entry points, as `unmute.stt_engines`.
        settings: of the service.

    Raises:
        NotFoundError: there is no such engine.
        FailedPreconditionError: it needs a package that is not installed.
        MeshError: `create` refuses the settings.
    """
    known = {point.name: point for point in entry_points(group=group)}
    if settings.engine not in known:
        raise NotFoundError("--engine", f"there is no {settings.engine!r}; there is {', '.join(sorted(known))}")
    try:
        create = known[settings.engine].load()
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            f"the engine {settings.engine!r} needs the package {error.name!r}", reason="NOT_INSTALLED"
        ) from error
    return create(settings)
