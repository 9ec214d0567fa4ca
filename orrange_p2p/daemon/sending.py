"""What people let the node send, by the local socket: under a name that they choose, so that the
same again is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from orrange_p2p.chains.evm.chain import EvmChain
from orrange_p2p.core.addresses import show_address
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.core.units import show_amount
from orrange_p2p.ports.chain import IntentStatus
from orrange_p2p.rpc.server import Params

__all__ = [
    "COIN_DECIMALS",
    "account_of",
    "address_of",
    "amount_of",
    "check_coins",
    "name_of",
    "status_row",
]

COIN_DECIMALS: Final = 18
_MAX_AMOUNT: Final = (1 << 256) - 1
_MAX_NAME: Final = 64


def account_of(accounts: Sequence[Address], params: Params) -> Address:
    """Of the traders' accounts the one whose number, from 1, is the parameter ``trader``."""
    if not accounts:
        raise ConfigError("this node has no trader whose account could pay")
    number = params.get("trader", 1)
    if type(number) is not int or not 1 <= number <= len(accounts):
        raise ConfigError(f"'trader' must be 1 to {len(accounts)}, not {number!r}")
    return accounts[number - 1]


def amount_of(params: Params) -> Amount:
    text = params.get("amount")
    is_number = isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 79
    if not is_number or int(str(text)) > _MAX_AMOUNT:
        raise ConfigError(f"'amount' must be a whole number as text, not {text!r}")
    return Amount(int(str(text)))


def address_of(params: Params, name: str) -> Address:
    text = params.get(name)
    try:
        octets = bytes.fromhex(text.removeprefix("0x")) if isinstance(text, str) else b""
    except ValueError:
        octets = b""
    if len(octets) != 20:
        raise ConfigError(f"{name!r} must be an address: 0x and 40 hexadecimal digits")
    return Address(octets)


def name_of(params: Params) -> str:
    """The intent's name: ids of all that people send are of one space."""
    text = params.get("id")
    if not isinstance(text, str) or not text.isalnum() or not 1 <= len(text) <= _MAX_NAME:
        raise ConfigError(f"'id' must be 1 to {_MAX_NAME} letters and digits, not {text!r}")
    return f"wallet {text}"


async def check_coins(chain: EvmChain, account: Address, value: Amount, gas: int) -> Amount:
    """What the fee may be at most. Raises ``ConfigError`` if the account cannot pay it beside
    ``value``."""
    held = await chain.balance(account)
    fee = (await chain.fees()).max_fee_wei * gas
    if held < value + fee:
        raise ConfigError(
            f"{show_address(account)} holds {show_amount(held, COIN_DECIMALS)} coins on "
            f"{chain.chain_id}, and with the fee this may take up to "
            f"{show_amount(value + fee, COIN_DECIMALS)}"
        )
    return Amount(fee)


def status_row(status: IntentStatus) -> dict[str, Any]:
    """How something that was sent stands."""
    return {
        "state": "reverted" if status.reverted else status.state.value,
        "tx_hash": "0x" + status.tx_hash.hex(),
        "attempts": status.attempts,
        "block": None if status.block is None else status.block[0],
        "confirmations": status.confirmations,
        "fee": str(status.fee_wei),
        "note": status.note or None,
    }
