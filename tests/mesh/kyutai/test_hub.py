"""The hub: the cache first, a token that can only read, and one clear line for what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mesh.errors import FailedPreconditionError, MeshError, NotFoundError, UnavailableError
from mesh.kyutai import Hub, fetch_checkpoint
from mesh.kyutai.hub import may_write

errors = pytest.importorskip("huggingface_hub.errors")
REPO = "kyutai/stt-2.6b-en"


class Fake:
    """Stands for `huggingface_hub`."""

    def __init__(self, account: Mapping[str, Any] | None = None, error: Exception | None = None) -> None:
        self.account, self.error = account, error
        self.downloads: list[tuple[str, str]] = []
        self.asked = 0
        self.cache: dict[tuple[str, str], str] = {}

    def hub(self) -> Hub:
        return Hub(
            download=self.download,
            cached=lambda repo, name: self.cache.get((repo, name)),
            token=lambda: None if self.account is None else "hf_secret",
            whoami=self.whoami,
        )

    def download(self, repo: str, name: str) -> str:
        self.downloads.append((repo, name))
        if self.error is not None:
            raise self.error
        return f"/cache/{repo}/{name}"

    def whoami(self, token: str) -> Mapping[str, Any]:
        assert token == "hf_secret"  # noqa: S105
        self.asked += 1
        assert self.account is not None
        return self.account


def role(name: str, **more: Any) -> dict[str, Any]:
    return {"auth": {"accessToken": {"role": name, **more}}}


def grained(*scoped: list[str], everywhere: tuple[str, ...] = ()) -> dict[str, Any]:
    scopes = [{"entity": {"name": "me"}, "permissions": permissions} for permissions in scoped]
    return role("fineGrained", fineGrained={"global": list(everywhere), "scoped": scopes})


def http_error(kind: Any, status: int) -> Exception:
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    error: Exception = kind("refused", response=response)
    return error


@pytest.mark.parametrize(
    ("account", "writes"),
    [
        (role("read"), False),
        (role("write"), True),
        (role("admin"), True),
        (grained(["repo.content.read"]), False),
        (grained(["repo.content.read", "repo.write"]), True),
        (grained(["repo.content.read"], ["discussion.write"]), True),
        (grained(everywhere=("discussion.write",)), True),
        (grained(["user.billing.manage"]), True),
        ({}, False),
    ],
)
def test_what_a_token_may_do(account: dict[str, Any], writes: bool) -> None:
    assert may_write(account) == writes


@pytest.mark.promise("hub-token")
def test_a_token_that_can_write_is_refused_before_anything_is_sent() -> None:
    fake = Fake(role("write"))
    with pytest.raises(FailedPreconditionError, match=r"has write access.*type `read`") as caught:
        fake.hub().fetch(REPO, "config.json")
    assert "hf_secret" not in str(caught.value)
    assert fake.downloads == []


def test_a_token_that_reads_is_asked_about_once() -> None:
    fake = Fake(role("read"))
    hub = fake.hub()
    assert hub.fetch(REPO, "a") == Path("/cache") / REPO / "a"
    hub.fetch(REPO, "b")
    assert fake.asked == 1


def test_no_token_is_fine_and_the_cache_needs_none() -> None:
    fake = Fake()
    fake.hub().fetch(REPO, "a")
    assert fake.asked == 0
    writer = Fake(role("write"))
    writer.cache[REPO, "a"] = "/cache/a"
    assert writer.hub().fetch(REPO, "a") == Path("/cache/a")
    assert writer.asked == 0


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (http_error(errors.GatedRepoError, 403), NotFoundError, "gated: accept its terms"),
        (http_error(errors.RepositoryNotFoundError, 404), NotFoundError, "no repository"),
        (http_error(errors.RemoteEntryNotFoundError, 404), NotFoundError, "has no file weights"),
        (http_error(errors.HfHubHTTPError, 500), UnavailableError, "the hub refused weights"),
        (errors.LocalEntryNotFoundError("offline"), UnavailableError, "cannot be reached"),
        (OSError("No space left on device"), UnavailableError, "No space left"),
    ],
)
def test_what_goes_wrong_is_one_line(error: Exception, kind: type[MeshError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        Fake(error=error).hub().fetch(REPO, "weights")
    assert "\n" not in caught.value.message


def test_a_name_that_can_be_no_repository_reaches_no_hub() -> None:
    fake = Fake()
    for name in ("model", "/no/such/folder", "./model/here", "a/b/c", "~/models"):
        with pytest.raises(NotFoundError, match="neither a folder nor"):
            fetch_checkpoint(name, kind="stt", hub=fake.hub())
    assert fake.downloads == []


def test_every_file_of_a_checkpoint_comes_from_where_config_says(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        '{"model_type": "stt", "stt_config": {}, "n_q": 8, "dep_q": 0, "card": 32, "text_card": 99, "dim": 32, '
        '"delays": [0], "num_layers": 1, "num_heads": 1, "moshi_name": "hf://other/place/sub/lm.safetensors", '
        '"mimi_name": "mimi.safetensors"}'
    )
    fake = Fake()
    fake.cache[REPO, "config.json"] = str(config)
    checkpoint = fetch_checkpoint(REPO, kind="stt", hub=fake.hub())
    assert checkpoint.name == REPO
    assert checkpoint.folder is None
    # The tokenizer has the name that moshi falls back on.
    assert fake.downloads == [
        ("other/place", "sub/lm.safetensors"),
        (REPO, "mimi.safetensors"),
        (REPO, "tokenizer_spm_32k_3.model"),
    ]
