"""Making a data directory: keys, the network file and the configuration. Nothing is overwritten."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from orrange_p2p.core import genesis
from orrange_p2p.core.errors import ConfigError, StoreError
from orrange_p2p.core.genesis import Genesis, Market, Parameters, Witness
from orrange_p2p.core.ids import Address, Era, MarketId, TimeMs, Weight
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.crypto.hashes import sha256
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.daemon.files import write_whole
from orrange_p2p.daemon.keys import Keys
from orrange_p2p.devnet.contracts import BASE, QUOTE
from orrange_p2p.signers.keyfile import create_secret, read_secret

__all__ = [
    "DEVELOPMENT_MARKET",
    "development_genesis",
    "make_directory",
    "make_keys",
    "reveal_chain",
    "witness_of",
    "write_config",
    "write_network",
]

FIRST_ERA: Final = Era(0)
DEVELOPMENT_CHAIN = "eip155:31337"
DEVELOPMENT_MARKET = Market(
    base=BASE.asset(DEVELOPMENT_CHAIN),
    quote=QUOTE.asset(DEVELOPMENT_CHAIN),
    tick_size=10**8,  # a cent for a whole coin
    lot_size=1,
    settlement="atomic",
    timing="evm-evm",
    rate_numerator=1,
    rate_denominator=1,
    volatility_ppm=50_000,
)


def make_directory(directory: DataDir) -> bool:
    """The directory and its ``keys``, mode 0700; whether the keys' one is new."""
    try:
        directory.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.keys.is_dir():
            return False
        directory.path.chmod(0o700)
        directory.keys.mkdir(mode=0o700)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename} is a file: choose another data directory") from None
    except OSError as error:
        raise StoreError(f"cannot make {directory.path}: {error.strerror}") from None
    return True


def make_keys(directory: DataDir, *, is_witness: bool, traders: int) -> list[Path]:
    """Draw the keys that are missing; the paths of the new ones. Checks those that are there."""
    if not any(directory.keys.iterdir()) and not directory.store.exists():
        write_whole(directory.never_signed, "These keys have signed nothing yet.\n")
    wanted = [directory.peer_key]
    if is_witness:
        wanted += [directory.witness_key, directory.reveal_key]
    wanted += [directory.trader_key(number) for number in range(1, traders + 1)]
    made = []
    for path in wanted:
        if os.path.lexists(path):
            read_secret(path)
        else:
            create_secret(path)
            made.append(path)
    return made


def reveal_chain(secret: bytes, market: MarketId, since: Era = FIRST_ERA) -> RevealChain:
    """The witness's hash chain in a market that begins with an era: each has its own, from one
    secret. Takes a second."""
    begun = since.to_bytes(8, "big") if since else b""
    return RevealChain(sha256(b"orrange/reveal-market/1" + secret + market + begun))


def witness_of(
    keys: Keys, markets: Sequence[Market], begins: Sequence[Era] = (FIRST_ERA,)
) -> Witness:
    """What genesis says of the witness with these keys. ``begins``: with which eras its chains of
    reveals begin, in each market. A chain takes a second."""
    secret = keys.reveal_secret()
    anchors = tuple(
        reveal_chain(secret, market.id, since).anchor for market in markets for since in begins
    )
    return Witness(keys.witness().address, Weight(1), anchors)


def development_genesis(witnesses: Sequence[Witness], start_ms: TimeMs) -> Genesis:
    """An open network with one market between the tokens of `orrange devnet`. Never for funds."""
    return Genesis(
        name="development",
        home_chain=DEVELOPMENT_CHAIN,
        registry=Address(bytes(20)),
        start_ms=start_ms,
        open=True,
        parameters=Parameters(),
        witnesses=tuple(sorted(witnesses, key=lambda witness: witness.address)),
        authors=(),
        markets=(DEVELOPMENT_MARKET,),
    )


def write_network(directory: DataDir, network: Genesis) -> bool:
    """Write ``network.toml``; False if it says the same already. ``ConfigError`` if another."""
    if directory.network.exists():
        if directory.load_genesis() != network:
            raise ConfigError(
                f"{directory.network} describes another network: choose another data directory"
            )
        return False
    write_whole(directory.network, genesis.to_toml(network))
    return True


def write_config(config: NodeConfig) -> bool:
    """Write ``node.toml``; False, and nothing changes, if there is one."""
    if config.data_dir.config.exists():
        return False
    write_whole(config.data_dir.config, config.to_toml())
    return True
