"""One more trader for a node: a key of its own, or one that another wallet has made."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address
from orrange_p2p.daemon import signing
from orrange_p2p.daemon.config import NodeConfig, load_config
from orrange_p2p.daemon.files import write_whole
from orrange_p2p.daemon.keys import open_keys
from orrange_p2p.signers.keyfile import create_secret, open_signer, write_secret
from orrange_p2p.signers.keystore import open_seed, write_key
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.signers.web3_keystore import read_web3_keystore
from orrange_p2p.store.sqlite_file import SqliteFile

__all__ = ["add_trader", "import_trader"]

_TRADERS: Final = re.compile(r"^traders[ \t]*=[ \t]*\d+[ \t]*$", re.MULTILINE)


def add_trader(config: NodeConfig, passphrase: Callable[[], str]) -> tuple[int, Address]:
    """One more trader of the node: its number and address. It trades from the next start on.

    Raises ``ConfigError`` if keys of other wallets come after those of the seed: their numbers, by
    which node.toml names them, would change.
    """
    directory = config.data_dir
    if not directory.seed.exists():
        number = len(directory.trader_keys()) + 1
        path = directory.trader_key(number)
        create_secret(path)
        return number, open_signer(path).address
    if directory.imported_keys():
        raise ConfigError(
            f"the keys {directory.keys}/imported-*.json are counted after those of the seed: one "
            "more of the seed would change their numbers"
        )
    number = config.traders + 1
    address = open_seed(directory.seed, passphrase()).trader(number).address
    _set_traders(config, number)
    return number, address


def import_trader(
    config: NodeConfig, keystore: Path, keystore_passphrase: str, passphrase: Callable[[], str]
) -> tuple[int, Address]:
    """A key of another wallet as one more trader: its number and address.

    The key may have signed elsewhere, so the node signs nothing before the network has told what.
    The mnemonic does not hold it: a backup does.
    """
    directory = config.data_dir
    secret = read_web3_keystore(keystore, keystore_passphrase)
    address = MemorySigner(secret).address
    keys = open_keys(config, passphrase)
    if address in [one.address for one in keys.traders()]:
        raise ConfigError(f"0x{address.hex()} is a trader of this node already")
    number = len(keys.traders()) + 1
    if directory.store.exists():
        with SqliteFile(directory.store, directory.load_genesis().network_id) as file:
            for name, value in signing.restored().items():
                file.set_meta(name, value)
    directory.never_signed.unlink(missing_ok=True)
    if directory.seed.exists():
        place = directory.imported_key(len(directory.imported_keys()) + 1)
        write_key(place, secret, passphrase())
    else:
        write_secret(directory.trader_key(number), secret)
    return number, address


def _set_traders(config: NodeConfig, number: int) -> None:
    """Change one line of ``node.toml``, or add it."""
    file = config.data_dir.config
    line, text = f"traders = {number}", file.read_text(encoding="utf-8")
    changed, count = _TRADERS.subn(line, text, count=1)
    write_whole(file, changed if count else f"{line}\n{text}")
    if load_config(config.data_dir.path).traders != number:
        write_whole(file, text)
        raise ConfigError(f"{file}: say there: {line}")
