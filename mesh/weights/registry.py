"""Finds the weights that the installed services may need, without importing a service by name."""

from __future__ import annotations

from importlib.metadata import entry_points

from mesh.errors import FailedPreconditionError
from mesh.weights.spec import Weight

GROUP = "unmute.weights"


def load_weights() -> dict[str, tuple[Weight, ...]]:
    """Returns every declared weight by service name, in the order of the names.

    Raises:
        FailedPreconditionError: an entry point cannot be imported or is no tuple of weights.
    """
    found: dict[str, tuple[Weight, ...]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            weights = tuple(entry.load())
        except (ImportError, AttributeError, TypeError) as error:
            raise FailedPreconditionError(
                f"cannot read the weights of {entry.name} ({entry.value}): {error}"
            ) from error
        if not all(isinstance(weight, Weight) for weight in weights):
            raise FailedPreconditionError(
                f"the weights of {entry.name} ({entry.value}) are not all mesh.weights.Weight"
            )
        found[entry.name] = weights
    return found
