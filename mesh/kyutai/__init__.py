"""What the engines on Kyutai's models share: their checkpoints, the device, the memory.

torch and moshi are imported by the functions that need them, never by the modules.
"""

from mesh.kyutai.checkpoint import Checkpoint, fetch_checkpoint
from mesh.kyutai.hub import Hub
from mesh.kyutai.memory import Footprint, check_memory, explain_memory, state_bytes
from mesh.kyutai.runtime import Runtime, prepare

__all__ = [
    "Checkpoint",
    "Footprint",
    "Hub",
    "Runtime",
    "check_memory",
    "explain_memory",
    "fetch_checkpoint",
    "prepare",
    "state_bytes",
]
