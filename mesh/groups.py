"""What failed in a group of tasks."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.errors import MeshError


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yields the errors of a group, and of the groups in it; of any other error, itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def first_error(error: BaseException) -> BaseException:
    """Returns the error of a group that says most: the first of the mesh, or else the first; any other, as it is."""
    found = list(leaves(error))
    return next((one for one in found if isinstance(one, MeshError)), found[0])
