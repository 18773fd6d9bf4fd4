"""Many streams in one batch on one device: slots, admission, and the thread that steps the model.

Nothing here imports torch.
"""

from mesh.batching.admission import Admission
from mesh.batching.batch import Batch
from mesh.batching.guard import StepGuard
from mesh.batching.slots import Lease, SlotTable
from mesh.batching.thread import Demand, EngineThread, Program

__all__ = ["Admission", "Batch", "Demand", "EngineThread", "Lease", "Program", "SlotTable", "StepGuard"]
