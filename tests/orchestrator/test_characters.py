from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from mesh.errors import NotFoundError
from orchestrator.characters import CharacterFileError, Characters, choose_voice, load_characters
from orchestrator.prompts.base import Headline, PromptContext, system_prompt
from orchestrator.prompts.history import estimate_tokens
from orchestrator.prompts.news import News

VOICES = Path(__file__).parents[2] / "voices.yaml"

GOOD = """\
characters:
  - id: ann
    name: Ann
    voice: {hibari: heart}
    instructions: {type: constant, text: You are Ann.}
  - id: bob
    name: Bob
    language: fr
    instructions:
      type: smalltalk
      text: You are Bob.
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_characters_that_come_with_the_project() -> None:
    characters = load_characters(VOICES)
    assert len(characters) >= 8
    assert len([one for one in characters if one.language == "fr"]) >= 2
    assert {one.instructions.type for one in characters} == {
        "constant",
        "smalltalk",
        "quiz_show",
        "guess_animal",
        "news",
        "explanation",
    }


@pytest.mark.parametrize("compact", [True, False])
def test_every_prompt_is_short_enough_for_its_model_and_begins_the_same(compact: bool) -> None:
    beginnings = set()
    for character in load_characters(VOICES):
        context = PromptContext(compact=compact, language_code="en", headlines=(Headline("Something happened"),))
        built = character.instructions.build(Random(1), context)
        assert built == character.instructions.build(Random(1), context)
        prompt = system_prompt(built, context)
        beginnings.add(prompt[:80])
        assert estimate_tokens(prompt) < (200 if compact else 900)
        assert "\n" not in prompt or not compact
    assert len(beginnings) == 1


def test_sessions_differ() -> None:
    characters = {one.id: one for one in load_characters(VOICES)}
    for name in ("marlow", "juno", "wren", "otto", "camille", "armand"):
        drawn = {characters[name].instructions.build(Random(seed), PromptContext()) for seed in range(20)}
        assert len(drawn) > 3, name


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("id: bob", "id: ann", "6: characters[1].id: another character is called 'ann'"),
        ("type: smalltalk", "type: chat", "9: characters[1].instructions"),
        ("name: Bob", "nam: Bob", "6: characters[1].name: field required"),
        ("name: Bob", "nam: Bob", "7: characters[1].nam: extra inputs"),
        ("text: You are Bob.", "text: ''", "11: characters[1].instructions.text: string should have"),
        ("language: fr", "language: 5", "8: characters[1].language: "),
        ("language: fr", "language: fr\n    language: en", "9: language: is given twice"),
        ("language: fr", "language: [fr", "9: "),
        ("{type: constant, text: You are Ann.}", "{type: constant}", "5: characters[0].instructions.text: field"),
    ],
)
def test_a_mistake_names_file_line_and_field(tmp_path: Path, old: str, new: str, mistake: str) -> None:
    path = write(tmp_path / "v.yaml", GOOD.replace(old, new))
    with pytest.raises(CharacterFileError) as caught:
        load_characters(path)
    assert f"{path}:{mistake}" in caught.value.message


@pytest.mark.parametrize("text", ["", "characters: []", "- a", "characters: 3", "\x00"])
def test_a_file_without_characters_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CharacterFileError, match=r"v\.yaml"):
        load_characters(write(tmp_path / "v.yaml", text))
    with pytest.raises(CharacterFileError, match="No such file"):
        load_characters(tmp_path / "none.yaml")


def test_a_change_is_read_without_a_restart_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "v.yaml", GOOD)
    characters = Characters(path)
    held = characters.get("ann", "f")
    write(path, GOOD.replace("name: Ann", "name: Anna"))
    os.utime(path, ns=(1, 1))
    assert characters.get("ann", "f").name == "Anna"
    assert held.name == "Ann"
    write(path, GOOD.replace("name: Ann", "nome: Ann"))
    os.utime(path, ns=(2, 2))
    assert characters.get("ann", "f").name == "Anna"
    assert "v.yaml:2: characters[0].name" in caplog.text
    path.unlink()
    assert characters.default.name == "Anna"
    with pytest.raises(NotFoundError, match="where: no character 'zoe'"):
        characters.get("zoe", "where")


def test_the_voice_is_the_characters_own_or_one_of_its_language(tmp_path: Path) -> None:
    ann, bob = load_characters(write(tmp_path / "v.yaml", GOOD))
    voices = [("hibari-1", "deep", ("en-US",)), ("hibari-1", "heart", ("en-US",)), ("other", "claire", ("fr",))]
    assert choose_voice(ann, voices).voice_id == "heart"
    assert choose_voice(bob, voices).voice_id == "claire"
    assert choose_voice(ann, voices[2:]).voice_id == ""


def test_news_without_a_feed_is_explained_aloud() -> None:
    news = News(type="news", text="You read news.")
    assert "because no news feed is set up here" in news.build(Random(1), PromptContext())
    context = PromptContext(news_problem="the news feed cannot be reached")
    assert "because the news feed cannot be reached" in news.build(Random(1), context)
