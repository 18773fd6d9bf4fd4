"""An utterance sounds the same in a batch as alone, whatever the other rows do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.batching import Lease
from mesh.kyutai import fetch_checkpoint, prepare
from tests.kyutai.fakegraph import emulated_graphs
from tests.kyutai.tts_rig import N_Q, Rig, Script, alone, assert_same, load_tiny, samples, words, write
from tts_service.engine import Event
from tts_service.engines.kyutai.loading import Loaded, load_model
from tts_service.engines.kyutai.row import MAX_AHEAD
from tts_service.engines.kyutai.runner import Tenant
from tts_service.engines.kyutai.script import Piece, ScriptReader

ROWS = 3
SCRIPTS = (
    Script("hello world how are you today", voice=0, seed=1),
    Script('bonjour le monde <break time="0.4s"/> je vais bien', voice=1, seed=2, cfg=3.0),
    Script("this is it (a test) at 10:30", voice=1, seed=3, cfg=1.5),
    Script("un deux trois quatre cinq", voice=0, seed=4),
    Script("I am", voice=0, seed=5),
)


@dataclass
class Models:
    references: list[list[Event]]
    several: Loaded


@pytest.fixture(scope="module")
def models(tts_checkpoint: Path) -> Models:
    single = load_tiny(tts_checkpoint, 1)
    references = [list(alone(single, script)) for script in SCRIPTS]
    assert all(len(samples(reference)) for reference in references)
    return Models(references, load_tiny(tts_checkpoint, ROWS))


@dataclass
class Utterance:
    script: int
    rest: list[Piece]
    cancel_after: int | None
    steps: int = 0
    finished: bool = False


@settings(max_examples=8)
@given(pick=st.randoms(use_true_random=True))
def test_batched_is_alone(models: Models, pick: Random) -> None:
    """Random starts, text that stalls, readers that stall, cancels, and rows that are used again."""
    rig = Rig(models.several, ROWS)
    waiting = pick.sample(range(len(SCRIPTS)), len(SCRIPTS))
    open_: dict[Lease, Utterance] = {}
    stall = pick.random() * 0.6
    heard = 0
    while waiting or open_:
        if waiting and pick.random() < 0.15 and (lease := rig.open(SCRIPTS[waiting[-1]])) is not None:
            reader = ScriptReader()
            text = SCRIPTS[waiting[-1]].text
            cancel_after = pick.randrange(30) if pick.random() < 0.25 else None
            open_[lease] = Utterance(waiting.pop(), [*reader.push(text), *reader.flush()], cancel_after)
        for lease, utterance in list(open_.items()):
            if utterance.cancel_after is not None and utterance.steps >= utterance.cancel_after:
                rig.close(lease)
                before = len(rig.said[lease])
                rig.step()
                assert len(rig.said[lease]) == before, "a cancelled row went on"
                del open_[lease]
                waiting.insert(0, utterance.script)
                continue
            _feed(rig, lease, utterance, pick, stall)
        rig.step()
        for lease, utterance in list(open_.items()):
            utterance.steps += 1
            if lease in rig.ended:
                assert_same(rig.said[lease], models.references[utterance.script])
                rig.close(lease)
                del open_[lease]
                heard += 1
    assert heard == len(SCRIPTS)


def _feed(rig: Rig, lease: Lease, utterance: Utterance, pick: Random, stall: float) -> None:
    row = rig.program.row(lease)
    if row is None:
        return
    if utterance.rest and pick.random() > stall:
        row.add([utterance.rest.pop(0)])
    if not utterance.rest and not utterance.finished:
        utterance.finished = True
        row.finish()
    assert row.waiting <= MAX_AHEAD
    if pick.random() > stall:
        row.taken(min(row.waiting, pick.randrange(6)))


@pytest.mark.parametrize(
    ("text", "index", "cfg"),
    [("hello world how are you today", 0, 2.0), ("bonjour le monde comment allez vous", 1, 3.5)],
)
def test_greedy_is_what_moshi_generates(tts_checkpoint: Path, text: str, index: int, cfg: float) -> None:
    """The reference is moshi's own generation, of the whole text, with one row."""
    loaded = load_tiny(tts_checkpoint, ROWS, temperature=0.0)
    model = load_model(fetch_checkpoint(str(tts_checkpoint), kind="tts"), prepare(device="cpu"), N_Q)
    model.temp = 0.0
    voice = loaded.voices[index].voice.id
    conditions = model.make_condition_attributes([tts_checkpoint / "voices" / (voice + model.voice_suffix)], cfg)
    result = model.generate([model.prepare_script([text], padding_between=1)], [conditions])
    frames = result.frames[model.delay_steps : result.end_steps[0] + model.delay_steps + model.final_padding]
    with model.mimi.streaming(1), torch.no_grad():
        audio = torch.cat([model.mimi.decode(frame[:, 1:].clamp(min=0)).clamp(-1, 1)[0, 0] for frame in frames])
    said = alone(loaded, Script(text, voice=index, cfg=cfg))
    # moshi drops the last two frames, for which it would have to step on.
    assert len(samples(said)) == len(audio) + 2 * 1920
    assert np.abs(samples(said)[: len(audio)] - audio.numpy()).max() < 1e-4
    taken = [(word.text.strip(), round(word.start * 12.5)) for word in words(said)]
    assert taken == result.all_transcripts[0]


def test_voice_cfg_and_seed_matter(models: Models) -> None:
    rig = Rig(models.several, ROWS)
    one = alone(models.several, Script("hello world", seed=1))
    for other in (
        Script("hello world", seed=2),
        Script("hello world", seed=1, voice=1),
        Script("hello world", seed=1, cfg=4.0),
    ):
        there = alone(models.several, other)
        length = min(len(samples(one)), len(samples(there)))
        assert not np.allclose(samples(one)[:length], samples(there)[:length], atol=1e-6)
    assert rig.table.used == 0


def test_graphs_change_nothing(models: Models, tts_checkpoint: Path) -> None:
    with emulated_graphs() as recorder:
        loaded = load_tiny(tts_checkpoint, ROWS)
        captured = dict(recorder.operations)
        assert any("depformer_step" in name for name in captured)
        assert any("forward_text" in name for name in captured)
        rig = Rig(loaded, ROWS)
        leases: dict[Lease, int] = {}
        for script in range(ROWS):
            lease = rig.open(SCRIPTS[script])
            assert lease is not None
            leases[lease] = script
            write(rig.row(lease), SCRIPTS[script].text)
            for _ in range(7):
                rig.step()
        rig.run()
        first = next(iter(leases))
        rig.close(first)
        # The row is used again after a graph has been replayed in it.
        again = rig.open(SCRIPTS[3])
        assert again is not None
        assert again.slot == first.slot
        leases[again] = 3
        write(rig.row(again), SCRIPTS[3].text)
        rig.run()
    for lease, script in leases.items():
        assert_same(rig.said[lease], models.references[script])
    # No utterance pays for a capture.
    assert recorder.operations == captured
    assert recorder.replays > 50


def test_a_row_waits_for_its_reader(models: Models) -> None:
    rig = Rig(models.several, ROWS)
    lease = rig.open(SCRIPTS[0])
    assert lease is not None
    write(rig.row(lease), " ".join([SCRIPTS[0].text] * 3))
    while rig.step():
        pass
    assert len(samples(rig.said[lease])) == MAX_AHEAD * 1920
    assert pytest.approx(2.0) == MAX_AHEAD * 0.08
    rig.row(lease).taken(5)
    while rig.step():
        pass
    assert len(samples(rig.said[lease])) == (MAX_AHEAD + 5) * 1920


def test_newcomers_get_steps_of_text_alone(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three steps are the newcomer's, without sound, while it is in its first ones."""
    kinds: list[tuple[bool, int]] = []
    step = models.several.runner.step

    def noted(rows: object, sounding: object, feed: object, *, text_only: bool = False) -> object:
        kinds.append((text_only, len(list(rows))))  # type: ignore[call-overload]
        return step(rows, sounding, feed, text_only=text_only)  # type: ignore[arg-type]

    monkeypatch.setattr(models.several.runner, "step", noted)
    rig = Rig(models.several, ROWS)
    first = rig.open(SCRIPTS[0])
    assert first is not None
    write(rig.row(first), SCRIPTS[0].text)
    for _ in range(10):
        rig.step()
    second = rig.open(SCRIPTS[3])
    assert second is not None
    write(rig.row(second), SCRIPTS[3].text)
    kinds.clear()
    for _ in range(6):
        rig.step()
    assert kinds == [(True, 1), (True, 1), (False, 2), (True, 1), (False, 2), (False, 2)]


def test_newcomers_move_in_together(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    admit = models.several.runner.admit

    def noted(tenants: Sequence[Tenant]) -> None:
        moved.append(len(tenants))
        admit(tenants)

    monkeypatch.setattr(models.several.runner, "admit", noted)
    rig = Rig(models.several, ROWS)
    for script in SCRIPTS[:3]:
        lease = rig.open(script)
        assert lease is not None
        write(rig.row(lease), script.text)
    rig.run()
    assert moved == [3]


def test_a_newcomer_moves_in_before_it_has_text(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    monkeypatch.setattr(models.several.runner, "admit", lambda tenants: moved.extend(tenant.row for tenant in tenants))
    rig = Rig(models.several, ROWS)
    lease = rig.open(SCRIPTS[0])
    assert lease is not None
    assert rig.step()
    assert moved == [lease.slot]
    assert not rig.step()
