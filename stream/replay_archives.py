"""Archives of alerts: what the user names, as shards that are read one beside the other.

A shard is one tar archive, one large Avro container or Parquet table, or the loose packet files and small tables of
one folder. Everything is reached through fsspec, so a path may as well be ``s3://`` or ``https://``; nothing is unpacked to disk.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Final, Self, cast

import fsspec

from space2vec.schemas.errors import ConfigError, Space2vecError
from space2vec.stream.archives import ARCHIVE_SUFFIXES, PACKET_SUFFIXES

TABLE_SUFFIX: Final = ".parquet"
"""Of tables whose rows are alerts, stamps included."""
LARGE_BYTES: Final = 8 << 20
"""From this size on, a container is read block by block and is a shard of its own."""
_EDGE_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of an archive: where it is, and its size in bytes as stored."""

    path: str
    size: int

    @property
    def name(self) -> str:
        """The path's last part."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Archive:
    """A shard: files that are read one after the other, always in this order.

    Attributes
    ----------
    name : str
        For people: a file's or folder's name.
    protocol : str
        fsspec's: ``file``, ``s3``, ``https``, ...
    files : tuple of StoredFile
        One tar archive, large container or large table, or any number of packet files and small tables.
    digest : str
        SHA-256, hex, of what tells the archive from any other: of a single file its size and its first and last
        MiB (a gzip's last bytes are the checksum of all of it), of loose packets their names and sizes.
    """

    name: str
    protocol: str
    files: tuple[StoredFile, ...] = field(repr=False)
    digest: str

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return sum(file.size for file in self.files)

    @property
    def shard(self) -> str:
        """Name that no other archive has; stands where outputs name their source topic."""
        return f"{self.name}@{self.digest[:12]}"

    def open(self, file: StoredFile) -> IO[bytes]:
        """Open one of the files for reading, from its beginning.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        with _storage_failing():
            stored = fsspec.filesystem(self.protocol).open(file.path, "rb")
        return cast("IO[bytes]", stored if self.protocol == "file" else _Remote(stored))


class _Remote:
    """A file somewhere else, whose failures are those of a file here."""

    def __init__(self, stored: Any) -> None:
        self._stored = stored

    def read(self, size: int = -1) -> bytes:
        with _storage_failing():
            return cast("bytes", self._stored.read(size))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stored.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)


@contextmanager
def _storage_failing() -> Iterator[None]:
    """Make an OSError of what a storage's client raises: some have errors that are none (aiohttp, botocore)."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


def find_archives(arguments: Sequence[str]) -> list[Archive]:
    """Resolve what the user named into shards, in a stable order, each once.

    Parameters
    ----------
    arguments : sequence of str
        Files, folders or globs; paths or fsspec URLs.

    Raises
    ------
    ConfigError
        Where a name leads to nothing, or its storage cannot be reached.
    """
    found: dict[tuple[str, str], Archive] = {}
    for argument in arguments:
        try:
            for archive in _resolved(argument):
                found.setdefault((archive.name, archive.digest), archive)
        except Space2vecError:
            raise
        except Exception as error:  # each storage's client has errors of its own
            raise ConfigError(f"{argument}: {error}") from error
    return list(found.values())


def is_archive(name: str) -> bool:
    """Whether a file's name says that it is a tar archive."""
    return name.endswith(ARCHIVE_SUFFIXES)


def is_large(file: StoredFile) -> bool:
    """Whether a file is to be read block by block."""
    return file.size > LARGE_BYTES and not file.name.endswith(".gz")


def verify(archive: Archive, sums: str) -> None:
    """Hold an archive's files against a list of MD5 sums, as ``md5sum`` writes it.

    Parameters
    ----------
    sums : str
        Path or URL of the list (ZTF's is ``MD5SUMS``).

    Raises
    ------
    ConfigError
        If the list cannot be read, lacks a file, or a file's sum is another.
    """
    try:
        with fsspec.open(sums, "rt") as lines:
            listed = {
                name.lstrip("*"): md5 for md5, name in (line.split(None, 1) for line in lines if line.strip())
            }
    except Exception as error:  # each storage's client has errors of its own
        raise ConfigError(f"{sums}: not a list of MD5 sums: {error}") from error
    listed = {name.strip().rsplit("/", 1)[-1]: md5.lower() for name, md5 in listed.items()}
    for file in archive.files:
        if file.name not in listed:
            raise ConfigError(f"{file.name}: not in {sums}")
        found = _md5(archive, file)
        if found != listed[file.name]:
            raise ConfigError(f"{file.name}: MD5 is {found}, {sums} says {listed[file.name]}")


def _resolved(argument: str) -> list[Archive]:
    storage, path = fsspec.core.url_to_fs(argument)
    protocol = storage.protocol if isinstance(storage.protocol, str) else storage.protocol[0]
    if any(sign in path for sign in "*?["):
        paths = sorted(storage.glob(path))
        name = path.split("*")[0].split("?")[0].rstrip("/").rsplit("/", 1)[-1] or "packets"
    elif storage.isdir(path):
        wanted = (*ARCHIVE_SUFFIXES, *PACKET_SUFFIXES, TABLE_SUFFIX)
        paths = sorted(p for p in storage.find(path) if p.endswith(wanted))
        name = path.rstrip("/").rsplit("/", 1)[-1]
    else:
        paths, name = [path], path.rsplit("/", 1)[-1]
    files = [StoredFile(p, _size(storage, p)) for p in paths if not storage.isdir(p)]
    if not files:
        raise ConfigError(f"{argument}: no alerts there")
    alone = [file for file in files if is_archive(file.name) or is_large(file)]
    loose = tuple(file for file in files if file not in alone)
    archives = [Archive(file.name, protocol, (file,), _edges(storage, file)) for file in alone]
    if loose:
        listing = "".join(f"{file.name} {file.size}\n" for file in loose)
        archives.append(Archive(name, protocol, loose, hashlib.sha256(listing.encode()).hexdigest()))
    return archives


def _size(storage: Any, path: str) -> int:
    size = storage.info(path)["size"]
    if size is None:
        raise ConfigError(f"{path}: its storage does not say how large it is")
    return int(size)


def _edges(storage: Any, file: StoredFile) -> str:
    digest = hashlib.sha256(f"{file.size}\n".encode())
    with storage.open(file.path, "rb", block_size=_EDGE_BYTES) as stored:  # s3fs would fetch 50 MiB
        digest.update(stored.read(_EDGE_BYTES))
        stored.seek(max(0, file.size - _EDGE_BYTES))
        digest.update(stored.read(_EDGE_BYTES))
    return digest.hexdigest()


def _md5(archive: Archive, file: StoredFile) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with archive.open(file) as stored:
        while chunk := stored.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
