"""All of a node in one file, and a data directory made from it.

The file is a tar archive of mode 0600. ``manifest.json`` comes first: the format, and size and
SHA-256 of each file that follows: configuration, network, keys as they lie, the bundles of open
swaps, copies of the store and of what was sent to each chain. The store's copy is marked: whoever
starts from it signs nothing before the network has told what the keys have signed since
(``daemon.signing``), however the file was unpacked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

from orrange_p2p.core.errors import ConfigError, StoreError
from orrange_p2p.daemon import signing
from orrange_p2p.daemon.config import DataDir, load_config
from orrange_p2p.store.intents_sqlite import SqliteIntents
from orrange_p2p.store.sqlite_file import SqliteFile

__all__ = ["back_up", "copy_stopped_stores", "restore"]

FORMAT: Final = "orrange backup 1"
_MANIFEST: Final = "manifest.json"
_STORE: Final = "store.sqlite"
_NAME: Final = re.compile(
    r"node\.toml|network\.toml|store\.sqlite|keys/[a-z][a-z0-9-]*\.[a-z]+"
    r"|chains/eip155-[0-9]+\.sqlite|swaps/[0-9a-f]{64}\.json"
)
_MAX_MANIFEST_BYTES: Final = 1 << 20
_CHUNK: Final = 1 << 20


def back_up(directory: DataDir, target: Path, copy_stores: Callable[[Path], None]) -> int:
    """Write a backup to ``target``, all of it or nothing; its size.

    ``copy_stores`` writes into a folder, under their names in a data directory, a marked copy of
    the store and one of the file of each chain: a running node's own method, or
    ``copy_stopped_stores``. Raises ``ConfigError`` if there is something at ``target`` already.
    """
    if os.path.lexists(target):
        raise ConfigError(f"{target} is there already; it is not overwritten: name another file")
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is no directory")
    try:
        # Beside the target: on its disk there has to be room anyway.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".orrange-backup-") as folder:
            copies = DataDir(Path(folder) / "copies")
            copies.chains.mkdir(mode=0o700, parents=True)
            if directory.store.exists() or directory.sent_to():
                copy_stores(copies.path)
            draft = Path(folder) / "archive"
            size = _pack(directory, copies, draft)
            os.rename(draft, target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror}") from None
    return size


def copy_stopped_stores(directory: DataDir, folder: Path) -> None:
    """Copy the stores of a node that is not running. Raises ``StoreError`` if one is in use."""
    copies = DataDir(folder)
    if directory.store.exists():
        with SqliteFile(directory.store, directory.load_genesis().network_id) as file:
            file.backup(copies.store, signing.restored())
    for chain in directory.sent_to():
        with closing(SqliteIntents(directory.sent(chain), chain)) as sent:
            sent.copy(copies.sent(chain))


def _pack(directory: DataDir, copies: DataDir, draft: Path) -> int:
    paths = {"node.toml": directory.config, "network.toml": directory.network}
    for path in sorted(directory.keys.iterdir()):
        paths[f"keys/{path.name}"] = path
    if directory.bundles.is_dir():
        for path in sorted(directory.bundles.iterdir()):
            paths[f"swaps/{path.name}"] = path
    paths[_STORE] = copies.store
    for chain in copies.sent_to():
        path = copies.sent(chain)
        paths[f"chains/{path.name}"] = path
    paths = {name: path for name, path in paths.items() if _NAME.fullmatch(name) and path.exists()}
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    files = {n: {"bytes": sizes[n], "sha256": _sha256(path)} for n, path in paths.items()}
    manifest = json.dumps({"format": FORMAT, "files": files}, indent=1).encode()
    with open(draft, "xb", opener=_private) as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, _MANIFEST, len(manifest), io.BytesIO(manifest))
            for name, path in paths.items():
                with path.open("rb") as content:
                    _add(archive, name, sizes[name], content)
        stream.flush()
        os.fsync(stream.fileno())
        return stream.tell()


def restore(source: Path, directory: DataDir) -> list[str]:
    """Make a data directory from a backup; the names of its files.

    Raises ``ConfigError`` if there is something at the directory's place already, or if the file is
    no backup, of another version or damaged; then nothing is made.
    """
    target = directory.path
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is not empty: restore into a new directory")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            open(source, "rb") as stream,
            tempfile.TemporaryDirectory(dir=target.parent, prefix=".orrange-restore-") as folder,
        ):
            draft = DataDir(Path(folder) / "node")
            names = _unpack(source, stream, draft.path)
            load_config(draft.path)
            genesis = draft.load_genesis()
            if draft.store.exists():
                SqliteFile(draft.store, genesis.network_id).close()
            for chain in draft.sent_to():
                SqliteIntents(draft.sent(chain), chain).close()
            os.rename(draft.path, target)  # an empty directory makes way
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename} is missing") from None
    except OSError as error:
        raise StoreError(f"cannot restore {source} to {target}: {error.strerror}") from None
    return names


def _unpack(source: Path, stream: IO[bytes], draft: Path) -> list[str]:
    """Write the files that the manifest lists, and compare each with what it says."""
    (draft / "keys").mkdir(mode=0o700, parents=True)
    draft.chmod(0o700)
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            listed = _manifest(source, archive)
            while (member := archive.next()) is not None:
                wanted = listed.pop(member.name, None)
                content = archive.extractfile(member)
                if wanted is None or content is None:
                    raise ConfigError(f"{source} holds {member.name!r}, which no backup does")
                (draft / member.name).parent.mkdir(mode=0o700, exist_ok=True)
                with open(draft / member.name, "xb", opener=_private) as file:
                    shutil.copyfileobj(content, file, _CHUNK)
                    file.flush()
                    os.fsync(file.fileno())
                if wanted != {"bytes": member.size, "sha256": _sha256(draft / member.name)}:
                    raise ConfigError(f"{source} is damaged: {member.name} is not what was saved")
            names = sorted(archive.getnames()[1:])
    except (tarfile.TarError, EOFError) as error:
        raise ConfigError(f"{source} is no backup, or damaged: {error}") from None
    if listed:
        raise ConfigError(f"{source} is damaged: {', '.join(sorted(listed))} is missing")
    return names


def _manifest(source: Path, archive: tarfile.TarFile) -> dict[str, Any]:
    first = archive.next()
    content = None if first is None else archive.extractfile(first)
    if first is None or first.name != _MANIFEST or content is None:
        raise ConfigError(f"{source} is no backup of a node")
    try:
        document = json.loads(content.read(_MAX_MANIFEST_BYTES))
        kind, files = document["format"], dict(document["files"])
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"{source} is damaged: its manifest cannot be read") from None
    if kind != FORMAT:
        raise ConfigError(f"{source} is of format {kind!r}, this version reads {FORMAT!r}")
    if not all(_NAME.fullmatch(name) for name in files):
        raise ConfigError(f"{source} is damaged: its manifest names what no backup holds")
    return files


def _add(archive: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    archive.addfile(member, content)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
