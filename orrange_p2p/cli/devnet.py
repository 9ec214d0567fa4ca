"""``orrange devnet``: chains on this machine, with coins that are worth nothing."""

from __future__ import annotations

import signal
from typing import Any

import click
import trio

from orrange_p2p.cli.options import echo_json, json_option, wants_json
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.devnet.accounts import MNEMONIC, accounts
from orrange_p2p.devnet.chains import KINDS, DevChain, open_chains

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
    help="Seconds from block to block.  [default: a block with each transaction]",
)
@json_option
def command(
    kind: str, numbers: tuple[int, ...], port: int, block_time_s: int | None, as_json: bool
) -> None:
    """Run development chains until Ctrl-C or SIGTERM.

    They listen on this machine only, over HTTP and WebSocket on one port each, and forget
    everything when they end. Two blocks below the head are final. The keys of the funded
    accounts are known to everybody: never send anything of worth to them.
    """
    numbers = numbers or (DEFAULT_CHAIN,)
    if len(set(numbers)) < len(numbers):
        raise ConfigError("--chain-id names a chain twice")
    if port + len(numbers) - 1 > 65535:
        raise ConfigError(f"--port {port} leaves no ports for {len(numbers)} chains")
    trio.run(_run, kind, numbers, port, block_time_s, wants_json(as_json))


async def _run(
    kind: str, numbers: tuple[int, ...], port: int, block_time_s: int | None, as_json: bool
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_chains(kind, numbers, first_port=port, block_time_s=block_time_s) as chains:
            if as_json:
                echo_json(_described(kind, chains))
            else:
                _show(kind, chains)
            await anext(signals)


def _described(kind: str, chains: list[DevChain]) -> dict[str, Any]:
    return {
        "evm": kind,
        "chains": [{"chain": one.chain, "ws": one.websocket, "http": one.http} for one in chains],
        "accounts": [
            {"address": f"0x{one.address.hex()}", "secret": f"0x{one.secret.hex()}"}
            for one in accounts()
        ],
        "mnemonic": MNEMONIC,
    }


def _show(kind: str, chains: list[DevChain]) -> None:
    for one in chains:
        click.echo(f"{one.chain}  {kind}  {one.websocket}  {one.http}")
    click.echo("\nEach holds 10,000 coins on each chain. Everybody knows these keys:")
    for account in accounts():
        click.echo(f"  0x{account.address.hex()}  0x{account.secret.hex()}")
    click.echo(f"\nWords: {MNEMONIC}\n\nIn node.toml:")
    for one in chains:
        click.echo(f'  [chain."{one.chain}"]\n  endpoints = ["{one.websocket}"]')
    click.echo("\nCtrl-C ends it.")
