"""With CUDA graphs, here emulated, streams hear what they hear without."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from stt_service.engines.kyutai.loading import Loaded
from tests.kyutai.audio import FRAME
from tests.kyutai.fakegraph import emulated_graphs
from tests.kyutai.stt_rig import Rig, alone, load_tiny
from tests.kyutai.test_stt_batch import SOUNDS, hear, said


def test_graphs_change_nothing(stt_checkpoint: Path) -> None:
    plain = load_tiny(stt_checkpoint, 1)
    references = [said(alone(plain, partial(hear, sound=sound))) for sound in (0, 1, 2)]
    with emulated_graphs() as recorder:
        loaded = load_tiny(stt_checkpoint, 2)
        captured = dict(recorder.operations)
        assert captured, "nothing was captured in the warm-up"
        assert staggered(loaded) == references
    # No stream pays for a capture.
    assert recorder.operations == captured
    assert {name.split(".")[0] for name in captured} >= {"SEANetEncoder", "SplitResidualVectorQuantizer", "LMModel"}
    assert recorder.replays > 50


def staggered(loaded: Loaded) -> list[list[object]]:
    """Hears sounds 0 and 1 at once, with pauses, and sound 2 in the row that sound 0 leaves."""
    rig = Rig(loaded, 2)
    first, second = rig.open(), rig.open()
    assert first is not None
    assert second is not None
    hear(rig.row(first), 0)
    for start in range(0, len(SOUNDS[1]), FRAME):
        rig.row(second).push(SOUNDS[1][start : start + FRAME])
        if start % (3 * FRAME) == 0:
            rig.step()
    while rig.program.row(first) is not None:
        rig.step()
    rig.close(first)
    third = rig.open()
    assert third is not None
    assert third.slot == first.slot
    hear(rig.row(third), 2)
    row = rig.row(second)
    row.mark(1)
    row.flush()
    row.finish()
    rig.run()
    return [list(said(rig.heard[lease])) for lease in (first, second, third)]
