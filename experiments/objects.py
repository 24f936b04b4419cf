"""Object stores, S3 and Google Cloud Storage, as a search uses them: whole objects, made once, replaced or removed.

Credentials and endpoints come from each machine's own environment or role, as the stores' own tools read them; they are
never part of an address, and never travel.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from satdet.errors import UsageError

SCHEMES = ("s3", "gs")
_CHUNK_BYTES = 16 << 20
_RETRIES: dict[str, Any] = {"max_retries": 3}
"""Of one request; whoever asks has a patience of minutes besides."""
_ALLOW_HTTP = "AWS_ALLOW_HTTP"
_DENIED = re.compile(r"status code: 40[13]\b")
"""Of a listing the client does not say it by the kind of its error."""
_CLIENT: dict[str, Any] = {"connect_timeout": "5s", "timeout": "120s"}


@dataclass(frozen=True)
class Stored:
    """An object: its size [bytes] and the tag that changes with its content."""

    size: int
    tag: str


class ObjectStore:
    """The objects below one address.

    Errors are those of files, so that a store is waited for like a file system: `FileNotFoundError`, `FileExistsError`,
    `PermissionError`, and OSError with ``EREMOTEIO`` for a store that is out of reach.

    Parameters
    ----------
    uri : str
        Like ``s3://bucket/some/prefix``.

    Raises
    ------
    UsageError
        If it is not like that.
    """

    def __init__(self, uri: str) -> None:
        self.uri = checked_uri(uri)

    def __str__(self) -> str:
        """Its address."""
        return self.uri

    def under(self, *parts: str) -> "ObjectStore":
        """The objects further below."""
        return ObjectStore("/".join((self.uri, *parts)))

    def read(self, key: str) -> bytes:
        """The content of an object."""
        import obstore

        with self._errors(key):
            return bytes(obstore.get(self._store, key).bytes())

    def write(self, key: str, content: bytes) -> None:
        """Make an object, or replace it."""
        import obstore

        with self._errors(key):
            obstore.put(self._store, key, content)

    def create(self, key: str, content: bytes) -> None:
        """Make an object.

        Raises
        ------
        FileExistsError
            If it is there; that may also be by an earlier attempt of ours whose answer was lost.
        """
        import obstore

        with self._errors(key):
            obstore.put(self._store, key, content, mode="create")

    def upload(self, path: Path, key: str) -> str:
        """Send a file; returns the object's tag."""
        import obstore

        with self._errors(key), path.open("rb") as file:
            return str(obstore.put(self._store, key, file)["e_tag"])

    def download(self, key: str, path: Path) -> str:
        """Write an object into the file `path`; returns its tag."""
        import obstore

        with self._errors(key), path.open("wb") as file:
            found = obstore.get(self._store, key)
            for chunk in found.stream(_CHUNK_BYTES):
                file.write(chunk)
            return str(found.meta["e_tag"])

    def copy(self, key: str, target: str) -> str:
        """Have another object of the same content, made by the store itself; returns the new one's tag."""
        import obstore

        with self._errors(key):
            obstore.copy(self._store, key, target)
            return str(obstore.head(self._store, target)["e_tag"])

    def listing(self, folder: str = "") -> dict[str, Stored]:
        """All objects in a folder, by their keys, which begin with the folder's."""
        import obstore

        with self._errors(folder):
            found: Iterable[Mapping[str, Any]] = obstore.list(self._store, folder or None).collect()
        return {str(each["path"]): Stored(int(each["size"]), str(each["e_tag"])) for each in found}

    def has(self, key: str) -> bool:
        """Whether there is an object of that key."""
        import obstore

        try:
            with self._errors(key):
                obstore.head(self._store, key)
        except FileNotFoundError:
            return False
        return True

    def folders(self) -> list[str]:
        """Names of the folders right below."""
        import obstore

        with self._errors(""):
            found = obstore.list_with_delimiter(self._store)["common_prefixes"]
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found)

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is none to remove."""
        import obstore

        for key in keys:
            try:
                with self._errors(key):
                    obstore.delete(self._store, key)
            except FileNotFoundError:
                continue

    @cached_property
    def _store(self) -> Any:
        from obstore import store

        build: Any = store.from_url
        plain = os.environ.get(_ALLOW_HTTP, "").lower() in ("1", "true")  # for a store on a network of one's own
        return build(self.uri, client_options={**_CLIENT, "allow_http": plain}, retry_config=_RETRIES)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from obstore import exceptions

        where = f"{self.uri}/{key}".rstrip("/")
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, reason(error), where) from None
        except exceptions.AlreadyExistsError as error:
            raise FileExistsError(errno.EEXIST, reason(error), where) from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise PermissionError(errno.EACCES, reason(error), where) from None
        except exceptions.BaseError as error:
            if _DENIED.search(str(error)):
                raise PermissionError(errno.EACCES, reason(error), where) from None
            raise OSError(errno.EREMOTEIO, reason(error), where) from None


def is_uri(storage: object) -> bool:
    """Whether a storage is named by an address, and not as a folder."""
    return "://" in str(storage)


def checked_uri(uri: str) -> str:
    """The address without a slash at its end.

    Raises
    ------
    UsageError
        If it is not that of an object store, or holds more than bucket and prefix.
    """
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://bucket/prefix" for scheme in SCHEMES)
        raise UsageError(f"--storage {parts.scheme}://…: not a folder, nor like {known}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"--storage {parts.scheme}://…: an address is bucket and prefix alone; credentials and options belong into"
            " the environment of each machine"
        )
    path = parts.path.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", parts.netloc) or any(
        not re.fullmatch(r"[A-Za-z0-9._-]+", part) or part in (".", "..") for part in path.split("/") if path
    ):
        raise UsageError(f"--storage {uri}: bucket and prefix are made of letters, digits, '.', '_' and '-'")
    return f"{parts.scheme}://{parts.netloc}" + (f"/{path}" if path else "")


def reason(error: Exception) -> str:
    """What a store says, in a few words: its own message, else the end of the client's first line."""
    text = str(error)
    message = re.search("<Message>(.+?)</Message>", text, re.DOTALL)
    said = message[1] if message is not None else text.partition("\n")[0].rpartition(" - ")[2]
    return " ".join(said.split())[:200] or type(error).__name__
