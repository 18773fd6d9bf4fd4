"""Speech-to-text engines; each imports its heavy packages itself."""

from __future__ import annotations

from importlib.metadata import entry_points

from mesh.errors import FailedPreconditionError, NotFoundError
from stt_service.engine import Engine
from stt_service.settings import SttSettings

GROUP = "unmute.stt_engines"


def create_engine(settings: SttSettings) -> Engine:
    """Returns the engine that `settings.engine` names, not started.

    Raises:
        NotFoundError: there is no such engine.
        FailedPreconditionError: it needs a package that is not installed.
    """
    known = {point.name: point for point in entry_points(group=GROUP)}
    if settings.engine not in known:
        raise NotFoundError("engine", f"no engine {settings.engine!r}; installed are: {', '.join(sorted(known))}")
    try:
        create = known[settings.engine].load()
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            f"the engine {settings.engine} needs the package {error.name!r}: pip install 'unmute-mesh[embedded]'"
        ) from error
    engine: Engine = create(settings)
    return engine
