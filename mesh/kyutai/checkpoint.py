"""A checkpoint of Kyutai's: a folder, or a repository of the hub, with config.json and the files it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import FailedPreconditionError, NotFoundError
from mesh.kyutai.hub import Hub

# The names that moshi falls back on.
_FILES = {
    "moshi_name": "model.safetensors",
    "mimi_name": "tokenizer-e351c8d8-checkpoint125.safetensors",
    "tokenizer_name": "tokenizer_spm_32k_3.model",
}
_LANGUAGE_MODEL = ("dim", "text_card", "card", "n_q", "dep_q", "delays", "num_layers", "num_heads")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Files of a checkpoint, all on this machine."""

    name: str
    """As clients name it: the hub's id, or the folder's name."""
    config: Mapping[str, Any]
    """What config.json says."""
    config_path: Path
    language_model: Path
    mimi: Path
    tokenizer: Path
    mimi_config: Path | None = None
    """None: the codec as Kyutai publishes it."""
    folder: Path | None = None
    """The folder it was taken from, if it was one."""

    def info(self) -> Any:
        """Returns moshi's `CheckpointInfo`; call `mesh.kyutai.prepare` first."""
        from moshi.models.loaders import CheckpointInfo

        return CheckpointInfo.from_hf_repo(
            self.name,
            moshi_weights=self.language_model,
            mimi_weights=self.mimi,
            tokenizer=self.tokenizer,
            config_path=self.config_path,
            mimi_config_path=self.mimi_config,
        )


def fetch_checkpoint(model: str, *, kind: str, hub: Hub | None = None) -> Checkpoint:
    """Returns a checkpoint, downloaded if need be.

    Args:
        model: a folder, or the id of a repository like `kyutai/stt-2.6b-en`. What config.json names is looked for
            beside it; `file:///path` names a file elsewhere, and `hf://owner/name/file` one of another repository.
        kind: "stt" or "tts"; another model type is refused.
        hub: where to get what is not here.

    Raises:
        NotFoundError: neither a folder nor a repository, or a file is missing.
        FailedPreconditionError: config.json is not one of such a model.
        UnavailableError: the hub cannot be reached.
    """
    hub = hub or Hub()
    path = Path(model).expanduser()
    folder = path.resolve() if path.is_dir() else None
    if folder is None and (model.count("/") != 1 or path.is_absolute() or model.startswith((".", "~"))):
        raise NotFoundError("model", f"{model} is neither a folder nor the id of a repository like kyutai/stt-2.6b-en")
    config_path = _find("config.json", folder, model, hub)
    config = read_config(config_path, kind)
    mimi_config = config.get("mimi_config_name")
    return Checkpoint(
        name=folder.name if folder else model,
        config=config,
        config_path=config_path,
        language_model=_find(config["moshi_name"], folder, model, hub),
        mimi=_find(config["mimi_name"], folder, model, hub),
        tokenizer=_find(config["tokenizer_name"], folder, model, hub),
        mimi_config=_find(mimi_config, folder, model, hub) if mimi_config else None,
        folder=folder,
    )


def read_config(path: Path, kind: str) -> dict[str, Any]:
    """Returns config.json, checked to be of a model of `kind` ("stt" or "tts").

    Raises:
        FailedPreconditionError: it is not.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(path, f"it cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise _wrong(path, "it is no JSON object")
    config = _FILES | config
    missing = [key for key in _LANGUAGE_MODEL if key not in config]
    if missing:
        raise _wrong(path, f"it lacks {', '.join(missing)}")
    # An older config.json tells the type only by the object of that type.
    implied = next((known for known in ("stt", "tts") if f"{known}_config" in config), "moshi")
    found = config.get("model_type", implied)
    if found != kind:
        raise _wrong(path, f"its model_type is {found!r}, and {kind!r} is needed")
    settings = config.get(f"{kind}_config")
    if not isinstance(settings, dict):
        raise _wrong(path, f"it lacks the object {kind}_config")
    for key in _FILES:
        if not isinstance(config[key], str):
            raise _wrong(path, f"{key} is no text")
    # Another format is unpickled, and that can run any code.
    for key in ("moshi_name", "mimi_name"):
        if not config[key].endswith(".safetensors"):
            raise _wrong(path, f"{key} must name a .safetensors file, and is {config[key]!r}")
    return config


def _find(name: str, folder: Path | None, repo: str, hub: Hub) -> Path:
    if name.startswith("hf://"):
        owner, repository, *rest = name.removeprefix("hf://").split("/")
        return hub.fetch(f"{owner}/{repository}", "/".join(rest))
    if name.startswith("file://"):
        path = Path(name.removeprefix("file://"))
    elif folder is not None:
        path = folder / name
    else:
        return hub.fetch(repo, name)
    if not path.is_file():
        raise NotFoundError("model", f"the checkpoint {folder or repo} has no file {path}")
    return path


def _wrong(path: Path, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(f"{path} is not the config.json of such a model: {why}", reason="WRONG_CONFIG")
