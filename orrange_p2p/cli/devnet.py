"""``orrange devnet``: chains on this machine, with coins that are worth nothing."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from orrange_p2p.cli.options import ADDRESS, echo_json, json_option, wants_json
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.daemon.config import load_genesis
from orrange_p2p.devnet.accounts import MNEMONIC, accounts
from orrange_p2p.devnet.bank import open_bank
from orrange_p2p.devnet.chains import (
    KINDS,
    DevChain,
    fund_bitcoin,
    open_bitcoin_chain,
    open_chains,
)
from orrange_p2p.devnet.contracts import BASE, QUOTE

_COINS = 100
_TOKENS = 1_000_000
_BITCOINS = 5
DEFAULT_CHAIN = 31337
DEFAULT_PORT = 8545


@click.command("devnet")
@click.option(
    "--evm",
    "kind",
    type=click.Choice(KINDS),
    default="embedded",
    show_default=True,
    help="embedded: py-evm in this process. anvil: Foundry's, installed by `make setup` from npm.",
)
@click.option(
    "--chain-id",
    "numbers",
    type=click.IntRange(1, 2**53),
    multiple=True,
    help=f"Given twice: two chains, such as an L1 and an L2.  [default: {DEFAULT_CHAIN}]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Of the first chain; the others follow. 0: any free ones.",
)
@click.option(
    "--block-time",
    "block_time_s",
    type=click.IntRange(1, 3600),
    help="Seconds from block to block; else one comes with each transaction, and the last two are "
    "not final until others come.",
)
@click.option(
    "--network",
    "network_file",
    type=click.Path(path_type=Path),
    help="A network.toml: its Settlement is deployed too.",
)
@click.option(
    "--fund",
    "owners",
    type=ADDRESS,
    multiple=True,
    help=f"An account to give {_COINS} coins and {_TOKENS:,} of each token. May be given again.",
)
@click.option(
    "--bitcoin",
    "with_bitcoin",
    is_flag=True,
    help="A Bitcoin regtest chain too, on the port after the others': swaps need one.",
)
@click.option(
    "--fund-bitcoin",
    "payees",
    metavar="ADDRESS",
    multiple=True,
    help=f"An address of it to give {_BITCOINS} coins. May be given again.",
)
@click.option("--no-contracts", is_flag=True, help="Deploy nothing: the chains begin empty.")
@json_option
def command(
    kind: str,
    numbers: tuple[int, ...],
    port: int,
    block_time_s: int | None,
    network_file: Path | None,
    owners: tuple[Address, ...],
    with_bitcoin: bool,
    payees: tuple[str, ...],
    no_contracts: bool,
    as_json: bool,
) -> None:
    """Run development chains until Ctrl-C or SIGTERM.

    They listen on this machine only, over HTTP and WebSocket on one port each, and forget
    everything when they end. Two blocks below the head are final. The keys of the funded
    accounts are known to everybody: never send anything of worth to them.

    The last account deploys the contracts and two tokens of which everybody can make some, at the
    same addresses on every chain and every time.
    """
    numbers = numbers or (DEFAULT_CHAIN,)
    if len(set(numbers)) < len(numbers):
        raise ConfigError("--chain-id names a chain twice")
    count = len(numbers) + with_bitcoin
    if port + count - 1 > 65535:
        raise ConfigError(f"--port {port} leaves no ports for {count} chains")
    if payees and not with_bitcoin:
        raise ConfigError("--fund-bitcoin needs --bitcoin")
    if no_contracts and (network_file is not None or owners):
        raise ConfigError("--no-contracts leaves out what --network and --fund need")
    network = None if network_file is None else load_genesis(network_file)

    async def deploy(chain: DevChain) -> dict[str, Address]:
        if no_contracts:
            return {}
        async with open_bank(chain) as bank:
            deployed = await bank.deploy(network)
            await bank.hand_out(
                owners,
                coins=Amount(_COINS * 10**18),
                base=Amount(_TOKENS * 10**BASE.decimals),
                quote=Amount(_TOKENS * 10**QUOTE.decimals),
            )
            return deployed

    trio.run(
        partial(_run, kind, numbers, port, block_time_s, deploy, wants_json(as_json)),
        payees if with_bitcoin else None,
    )


async def _run(
    kind: str,
    numbers: tuple[int, ...],
    port: int,
    block_time_s: int | None,
    deploy: Callable[[DevChain], Awaitable[dict[str, Address]]],
    as_json: bool,
    payees: Sequence[str] | None,
) -> None:
    """``payees``: of Bitcoin; None: without it."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with (
            AsyncExitStack() as stack,
            open_chains(kind, numbers, first_port=port, block_time_s=block_time_s) as chains,
        ):
            contracts = [await deploy(chain) for chain in chains]
            bitcoin = None
            if payees is not None:
                bitcoin = await stack.enter_async_context(
                    open_bitcoin_chain(
                        port=port + len(numbers) if port else 0, block_time_s=block_time_s
                    )
                )
                for payee in payees:
                    await fund_bitcoin(bitcoin, payee, _BITCOINS * 10**8)
            if as_json:
                echo_json(_described(kind, chains, contracts, bitcoin))
            else:
                _show(kind, chains, contracts[0], bitcoin)
            await anext(signals)


def _described(
    kind: str,
    chains: list[DevChain],
    contracts: list[dict[str, Address]],
    bitcoin: DevChain | None,
) -> dict[str, Any]:
    return {
        "bitcoin": None if bitcoin is None else {"chain": bitcoin.chain, "http": bitcoin.http},
        "evm": kind,
        "chains": [
            {
                "chain": one.chain,
                "ws": one.websocket,
                "http": one.http,
                "contracts": {name: f"0x{address.hex()}" for name, address in deployed.items()},
            }
            for one, deployed in zip(chains, contracts, strict=True)
        ],
        "accounts": [
            {"address": f"0x{one.address.hex()}", "secret": f"0x{one.secret.hex()}"}
            for one in accounts()
        ],
        "mnemonic": MNEMONIC,
    }


def _show(
    kind: str, chains: list[DevChain], contracts: dict[str, Address], bitcoin: DevChain | None
) -> None:
    for one in chains:
        click.echo(f"{one.chain}  {kind}  {one.websocket}  {one.http}")
    if bitcoin is not None:
        click.echo(f"{bitcoin.chain}  regtest  {bitcoin.http}")
    click.echo("\nEach holds 10,000 coins on each chain. Everybody knows these keys:")
    for account in accounts():
        click.echo(f"  0x{account.address.hex()}  0x{account.secret.hex()}")
    click.echo(f"\nWords: {MNEMONIC}")
    if contracts:
        click.echo("\nContracts, the same on each chain:")
    for name, address in contracts.items():
        click.echo(f"  0x{address.hex()}  {name}")
    settlement = contracts.get("Settlement")
    if contracts and settlement is None:
        click.echo("  (Settlement is made for one network: name its file with --network)")
    click.echo("\nIn node.toml:")
    for one in chains:
        click.echo(f'  [chain."{one.chain}"]\n  endpoints = ["{one.websocket}"]')
    if bitcoin is not None:
        click.echo(f'  [chain."{bitcoin.chain}"]\n  endpoint = "{bitcoin.http}"')
    if settlement is not None:
        for one in chains:
            click.echo(f'  [settlement."{one.chain}"]\n  contract = "0x{settlement.hex()}"')
    for one in chains if contracts else ():
        timelock = contracts["HashTimelock"].hex()
        click.echo(f'  [swap."{one.chain}"]\n  contract = "0x{timelock}"')
    click.echo("\nCtrl-C ends it.")
