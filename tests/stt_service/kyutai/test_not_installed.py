"""Without torch the engine can be named and listed, and says how to get what it lacks."""

from __future__ import annotations

import sys

import pytest

from mesh.errors import FailedPreconditionError
from stt_service.engines.kyutai import create
from stt_service.engines.kyutai.loading import languages_of
from stt_service.settings import SttSettings


async def test_what_is_missing_is_said_before_anything_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    engine = create(SttSettings(batch_size=7))
    assert engine.capabilities.model == "kyutai/stt-1b-en_fr-candle"
    assert engine.capabilities.language_codes == ("en", "fr")
    assert engine.capabilities.licence == "CC-BY-4.0"
    assert engine.capabilities.slots == 7
    with pytest.raises(FailedPreconditionError, match="'torch': run `make setup-kyutai`"):
        await engine.start()
    await engine.close()


@pytest.mark.parametrize(
    ("name", "languages"),
    [
        ("kyutai/stt-1b-en_fr-candle", ("en", "fr")),
        ("kyutai/stt-1b-en_fr", ("en", "fr")),
        ("kyutai/stt-2.6b-en", ("en",)),
        ("my-own-model", ()),
        ("stt", ()),
    ],
)
def test_languages_are_in_the_name(name: str, languages: tuple[str, ...]) -> None:
    assert languages_of(name) == languages
