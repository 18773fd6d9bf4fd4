"""Characters: who can be talked to, read from voices.yaml and read anew when the file changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mesh.errors import MeshError, NotFoundError
from orchestrator.prompts.constant import Constant
from orchestrator.prompts.explanation import Explanation
from orchestrator.prompts.guess_animal import GuessAnimal
from orchestrator.prompts.news import News
from orchestrator.prompts.quiz_show import QuizShow
from orchestrator.prompts.smalltalk import Smalltalk

_log = logging.getLogger(__name__)

DEFAULT_PATH = Path("voices.yaml")

Instructions = Annotated[
    Constant | Smalltalk | QuizShow | GuessAnimal | News | Explanation, Field(discriminator="type")
]


class Character(BaseModel):
    """A voice, and what it is and does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """What clients ask for."""
    name: str = Field(min_length=1)
    """What people read."""
    voice: dict[str, str] = Field(default_factory=dict)
    """Voice id for each text-to-speech model; a model's name, or the beginning of it. None fits: the default voice."""
    language: str = Field(default="en", pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]+)*$")
    """Language it begins in, BCP-47."""
    attribution: str = ""
    """Where the voice comes from, if the voice itself does not say so."""
    speaks_first: bool = True
    """It opens the conversation."""
    instructions: Instructions
    """What it is and does."""

    def voice_for(self, models: Iterable[str]) -> tuple[str, str]:
        """The first of `models` that it has a voice for, and the voice's id; two empty texts if there is none."""
        for model in models:
            fitting = [key for key in self.voice if model == key or model.startswith(key)]
            if fitting:
                return model, self.voice[max(fitting, key=len)]
        return "", ""


class _File(BaseModel):
    """All of voices.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    characters: tuple[Character, ...] = Field(min_length=1)


class CharacterFileError(MeshError):
    """voices.yaml is wrong; the message names file, line and field."""

    default_reason = "BAD_CHARACTERS"


def load_characters(path: Path) -> tuple[Character, ...]:
    """Reads and checks a file of characters; the first of them is the default.

    Raises:
        CharacterFileError: it cannot be read, or is wrong; one line for each mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise CharacterFileError(f"{path}: {reason}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CharacterFileError(f"{path}:{line}: {error.problem or 'is not YAML'}") from error
    except yaml.YAMLError as error:
        raise CharacterFileError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if node is not None and (repeated := _repeated_key(node)):
        raise CharacterFileError(f"{path}:{repeated.start_mark.line + 1}: {repeated.value}: is given twice")
    try:
        characters = _File.model_validate(data).characters
    except ValidationError as error:
        raise CharacterFileError("\n".join(_mistake(path, node, part) for part in error.errors())) from error
    seen: set[str] = set()
    for index, character in enumerate(characters):
        if character.id in seen:
            place = {"loc": ("characters", index, "id"), "msg": f"another character is called {character.id!r}"}
            raise CharacterFileError(_mistake(path, node, place))
        seen.add(character.id)
    return characters


def find_file(path: Path) -> Path:
    """`path` if it is there or is no default; else the file that comes with the package."""
    here = Path(__file__).resolve().parent
    packaged = (here / DEFAULT_PATH.name, here.parent / DEFAULT_PATH.name)
    if path.exists() or path != DEFAULT_PATH:
        return path
    return next((candidate for candidate in packaged if candidate.exists()), path)


class Characters:
    """The characters of a file, always those of its newest version that is right."""

    def __init__(self, path: Path) -> None:
        """Reads `path`.

        Raises:
            CharacterFileError: the file is wrong.
        """
        self._path = path
        self._stamp = _stamp(path)
        self._characters = load_characters(path)

    def current(self) -> tuple[Character, ...]:
        """The characters, the default first; reads the file anew if it has changed. A broken file changes nothing."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return self._characters
        self._stamp = stamp
        try:
            self._characters = load_characters(self._path)
        except CharacterFileError as error:
            _log.error("the characters stay as they were: %s", error.message)
        else:
            _log.info("%s: read anew, %d characters", self._path, len(self._characters))
        return self._characters

    def get(self, character_id: str, field: str) -> Character:
        """The character of that id.

        Raises:
            NotFoundError: there is none; `field` is where the request names it.
        """
        for character in self.current():
            if character.id == character_id:
                return character
        raise NotFoundError(field, f"no character {character_id!r}")

    @property
    def default(self) -> Character:
        """Who talks when a session asks for nobody."""
        return self.current()[0]


@dataclass(frozen=True, slots=True)
class VoiceChoice:
    """The voice that a session speaks with."""

    model: str
    voice_id: str
    """Empty: the default of the text-to-speech service."""


def choose_voice(character: Character, voices: Sequence[tuple[str, str, tuple[str, ...]]]) -> VoiceChoice:
    """The voice for a character among those that there are, each (model, voice id, languages), the default first.

    The character's own voice comes first; without one, the first that speaks its language; else the service's default.
    """
    models = list(dict.fromkeys(model for model, _, _ in voices))
    model, voice_id = character.voice_for(models)
    if any((model, voice_id) == (other, voice) for other, voice, _ in voices) or (voice_id and not voices):
        return VoiceChoice(model, voice_id)
    language = character.language.partition("-")[0].lower()
    for other, voice, languages in voices:
        if any(code.partition("-")[0].lower() == language for code in languages):
            return VoiceChoice(other, voice)
    return VoiceChoice("", "")


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _mistake(path: Path, root: yaml.Node | None, error: Mapping[str, Any]) -> str:
    """One line for one mistake: where in the file, which field, what is wrong."""
    node, names = root, ""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in error["loc"]:
        found = _child(node, part)
        if found is None:
            # A missing or unknown field, or a name that pydantic puts in for the type of a union.
            if isinstance(part, str) and not _is_tag(node, part):
                names += f".{part}" if names else part
            continue
        node, line = found
        names += f"[{part}]" if isinstance(part, int) else f".{part}" if names else str(part)
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}:{line}: {names or 'the file'}: {message[:1].lower()}{message[1:]}"


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _is_tag(node: yaml.Node | None, part: str) -> bool:
    found = _child(node, "type")
    return found is not None and found[0].value == part


def _repeated_key(node: yaml.Node) -> yaml.ScalarNode | None:
    """The first key that a mapping has twice: YAML would silently take the last."""
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in current.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        return key
                    seen.add(key.value)
                pending.append(value)
        elif isinstance(current, yaml.SequenceNode):
            pending.extend(current.value)
    return None
