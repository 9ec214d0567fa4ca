"""The keys of a data directory: of one encrypted seed if there is one, else of plain files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.crypto.bip32 import derive
from orrange_p2p.crypto.hashes import sha256
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.ports import Signer
from orrange_p2p.signers.keyfile import check_private, open_signer, read_secret
from orrange_p2p.signers.keystore import Seed, open_key, open_seed, write_key, write_seed
from orrange_p2p.signers.memory import MemorySigner

__all__ = [
    "MIN_PASSPHRASE",
    "Keys",
    "PlainKeys",
    "SeedKeys",
    "change_passphrase",
    "check_mnemonic",
    "make_seed",
    "mnemonic",
    "open_keys",
    "read_passphrase",
]

MIN_PASSPHRASE: Final = 8
"""Characters. scrypt makes a guess cost a third of a second; the rest is up to the passphrase."""
_MAX_PASSPHRASE_BYTES: Final = 4096


class Keys(Protocol):
    """What a node signs and is known with."""

    def peer_secret(self) -> bytes: ...
    def reveal_secret(self) -> bytes: ...
    def witness(self) -> Signer: ...
    def traders(self) -> list[Signer]:
        """By number."""
        ...

    def swap_root(self) -> bytes:
        """What the secrets of swaps come from: 32 bytes."""
        ...

    def bitcoin_key(self, path: tuple[int, ...]) -> bytes:
        """The secret key of the Bitcoin wallet at a path (BIP-32)."""
        ...


class PlainKeys:
    """One unencrypted file each."""

    def __init__(self, directory: DataDir) -> None:
        self._directory = directory

    def peer_secret(self) -> bytes:
        return read_secret(self._directory.peer_key)

    def reveal_secret(self) -> bytes:
        return read_secret(self._directory.reveal_key)

    def witness(self) -> Signer:
        return open_signer(self._directory.witness_key)

    def traders(self) -> list[Signer]:
        return [open_signer(path) for path in self._directory.trader_keys()]

    def swap_root(self) -> bytes:
        return sha256(b"orrange/swap-root/1" + self._first_trader())

    def bitcoin_key(self, path: tuple[int, ...]) -> bytes:
        return derive(self._first_trader(), path)

    def _first_trader(self) -> bytes:
        """Stands for a seed where there is none."""
        return read_secret(self._directory.trader_key(1))


class SeedKeys:
    """All from one seed."""

    def __init__(self, seed: Seed, traders: int, imported: Sequence[Signer] = ()) -> None:
        """``imported``: traders after those of the seed."""
        self._seed = seed
        self._traders = traders
        self._imported = imported

    def peer_secret(self) -> bytes:
        return self._seed.peer_secret()

    def reveal_secret(self) -> bytes:
        return self._seed.reveal_secret()

    def witness(self) -> Signer:
        return self._seed.witness()

    def traders(self) -> list[Signer]:
        own = [self._seed.trader(number) for number in range(1, self._traders + 1)]
        return [*own, *self._imported]

    def swap_root(self) -> bytes:
        return self._seed.swap_root()

    def bitcoin_key(self, path: tuple[int, ...]) -> bytes:
        return self._seed.bitcoin_key(path)


def open_keys(config: NodeConfig, passphrase: Callable[[], str]) -> Keys:
    """The keys of a node; ``passphrase`` is asked only if they are encrypted.

    Raises ``ConfigError`` for a wrong one, and for files that cannot be used.
    """
    directory = config.data_dir
    if not directory.seed.exists():
        return PlainKeys(directory)
    entered = passphrase()
    seed = open_seed(directory.seed, entered)
    imported = [MemorySigner(open_key(path, entered)) for path in directory.imported_keys()]
    return SeedKeys(seed, config.traders, imported)


def make_seed(directory: DataDir, passphrase: str, words: str | None = None) -> None:
    """Write a new seed, or that of a mnemonic; raises ``ConfigError`` if there are keys already.

    Keys of a mnemonic may have signed, so their store is no first one.
    """
    if any(directory.keys.iterdir()):
        raise ConfigError(f"{directory.keys} holds keys already: choose another data directory")
    if words is None and not directory.store.exists():
        directory.never_signed.touch(mode=0o600)
    seed = Seed.new() if words is None else Seed.of_mnemonic(words)
    write_seed(directory.seed, seed, passphrase)


def check_mnemonic(words: str) -> None:
    """Raises ``ConfigError`` if they are none."""
    Seed.of_mnemonic(words)


def mnemonic(directory: DataDir, passphrase: str) -> str:
    """The 24 words. Raises ``ConfigError`` for a directory of plain key files."""
    return _seed(directory, passphrase).mnemonic


def change_passphrase(directory: DataDir, old: str, new: str) -> None:
    """Write the seed anew under another passphrase. Copies of the old file stay readable."""
    seed = _seed(directory, old)
    secrets = {path: open_key(path, old) for path in directory.imported_keys()}
    for path, secret in secrets.items():
        write_key(path, secret, new, replace=True)
    write_seed(directory.seed, seed, new, replace=True)


def _seed(directory: DataDir, passphrase: str) -> Seed:
    if not directory.seed.exists():
        raise ConfigError(f"the keys in {directory.keys} are plain files, without a passphrase")
    return open_seed(directory.seed, passphrase)


def read_passphrase(path: Path) -> str:
    """The first line of a file that nobody else can read."""
    try:
        with path.open("rb") as file:
            check_private(path, os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX_PASSPHRASE_BYTES).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    line = text.partition("\n")[0]
    if not line:
        raise ConfigError(f"{path} has no passphrase in its first line")
    return line
