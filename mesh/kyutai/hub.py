"""Files of the model hub, with a token that can only read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mesh.errors import FailedPreconditionError, NotFoundError, UnavailableError

log = logging.getLogger(__name__)

_LIST_SECONDS = 10.0
_WRITE_ROLES = frozenset({"write", "admin"})


class Hub:
    """Fetches files of a hub's repositories into the user's cache; safe to use from several threads."""

    def __init__(
        self,
        *,
        download: Callable[..., str] | None = None,
        cached: Callable[[str, str], Any] | None = None,
        token: Callable[[], str | None] | None = None,
        whoami: Callable[[str], Mapping[str, Any]] | None = None,
        list_files: Callable[[str], Iterable[str]] | None = None,
        snapshot: Callable[..., str] | None = None,
    ) -> None:
        """Takes other functions than those of `huggingface_hub` for tests."""
        self._download = download
        self._cached = cached
        self._token = token
        self._whoami = whoami
        self._list = list_files
        self._snapshot = snapshot
        self._checked = False

    def fetch(self, repo: str, name: str) -> Path:
        """Returns the local path of a file, downloaded if need be with its progress shown on stderr.

        Args:
            repo: as `kyutai/stt-1b-en_fr-candle`.
            name: path of the file in the repository.

        Raises:
            NotFoundError: there is no such repository or file, or it is not open to this user.
            FailedPreconditionError: the token may write, or the file cannot be stored.
            UnavailableError: the hub cannot be reached, and the file is not in the cache.
        """
        import huggingface_hub
        from huggingface_hub import errors

        cached = (self._cached or huggingface_hub.try_to_load_from_cache)(repo, name)
        if isinstance(cached, str):
            return Path(cached)
        self.check_token()
        log.info("fetching %s from %s", name, repo)
        try:
            return Path((self._download or huggingface_hub.hf_hub_download)(repo, name))
        except errors.GatedRepoError as error:
            raise NotFoundError(
                "model", f"{repo} is gated: accept its terms on its page, and set HF_TOKEN to a token that can read it"
            ) from error
        except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
            raise NotFoundError(
                "model", f"no repository {repo!r} on the hub, nor a folder of that name here (or it is private)"
            ) from error
        except errors.LocalEntryNotFoundError as error:
            raise UnavailableError(
                f"{name} of {repo} is not in the cache, and the hub cannot be reached", reason="WEIGHTS_MISSING"
            ) from error
        except errors.EntryNotFoundError as error:
            raise NotFoundError("model", f"{repo} has no file {name}") from error
        except errors.HfHubHTTPError as error:
            raise UnavailableError(f"the hub refused {name} of {repo}: {error}", reason="WEIGHTS_MISSING") from error
        except _offline_errors(errors) as error:
            raise UnavailableError(f"cannot fetch {name} of {repo}: {error}", reason="WEIGHTS_MISSING") from error

    def files(self, repo: str) -> list[str]:
        """Returns the paths of all files of a repository; of those in the cache if the hub cannot be reached.

        Raises:
            NotFoundError: there is no such repository, or it is not open to this user.
            FailedPreconditionError: the token may write.
            UnavailableError: the hub cannot be reached, and nothing of the repository is in the cache.
        """
        import huggingface_hub
        from huggingface_hub import errors

        self.check_token()
        try:
            return list((self._list or _list_files)(repo))
        except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
            raise NotFoundError("--voices", f"no repository {repo!r} on the hub, nor a folder of that name") from error
        except _offline_errors(errors) as error:
            try:
                folder = Path((self._snapshot or huggingface_hub.snapshot_download)(repo, local_files_only=True))
            except (errors.LocalEntryNotFoundError, OSError):
                raise UnavailableError(
                    f"the hub cannot be reached, and nothing of {repo} is in the cache", reason="WEIGHTS_MISSING"
                ) from error
            return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

    def check_token(self) -> None:
        """Refuses a token that could do harm if this process were taken over: serving needs to read only."""
        if self._checked:
            return
        import huggingface_hub
        from huggingface_hub import errors

        token = (self._token or huggingface_hub.get_token)()
        if not token:
            self._checked = True
            return
        try:
            whoami = self._whoami or (lambda secret: huggingface_hub.HfApi().whoami(token=secret))
            account = whoami(token)
        except errors.HfHubHTTPError as error:
            raise FailedPreconditionError(
                "the hub does not accept the token in HF_TOKEN (or of `hf auth login`); public models need none",
                reason="TOKEN_REFUSED",
            ) from error
        except _offline_errors(errors):
            # Without the hub nothing can be downloaded either, and `fetch` says so.
            return
        if may_write(account):
            raise FailedPreconditionError(
                "the token in HF_TOKEN (or of `hf auth login`) has write access, and a server must not hold such a "
                "token: make one of the type `read` in the settings of your account, under access tokens; public "
                "models need none",
                reason="TOKEN_CAN_WRITE",
            )
        self._checked = True


def _list_files(repo: str) -> list[str]:
    import huggingface_hub

    # Its own list of files tries again for half a minute when the hub cannot be reached.
    found = huggingface_hub.HfApi().model_info(repo, timeout=_LIST_SECONDS)
    return [file.rfilename for file in found.siblings or ()]


def _offline_errors(errors: Any) -> tuple[type[Exception], ...]:
    """Returns what a connection that fails raises: the hub's client has changed its HTTP library over time."""
    return OSError, getattr(errors, "HTTPError", OSError)


def may_write(account: Mapping[str, Any]) -> bool:
    """Says whether the token that `account`, an answer of the hub's whoami, is about can change anything."""
    token = account.get("auth", {}).get("accessToken", {})
    if token.get("role") in _WRITE_ROLES:
        return True
    grained = token.get("fineGrained") or {}
    granted = list(grained.get("global") or ())
    for scope in grained.get("scoped") or ():
        granted += scope.get("permissions") or ()
    return any("write" in permission or "manage" in permission for permission in granted)
