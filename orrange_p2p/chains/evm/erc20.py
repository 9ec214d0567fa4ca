"""ERC-20 tokens, and the ones that wrap a chain's coin: what they are told, what they answer."""

from __future__ import annotations

from typing import Final

from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.core.units import MAX_DECIMALS
from orrange_p2p.crypto.hashes import keccak256

__all__ = [
    "DECIMALS",
    "DEPOSIT",
    "SYMBOL",
    "TOTAL_SUPPLY",
    "allowance_call",
    "approve_call",
    "balance_call",
    "read_amount",
    "read_decimals",
    "read_symbol",
    "token_of",
    "transfer_call",
    "transfer_from_call",
    "withdraw_call",
]

MAX_SYMBOL: Final = 16
"""Characters; a longer one is cut."""


def selector(signature: str) -> bytes:
    """By which a contract tells its functions apart."""
    return keccak256(signature.encode())[:4]


DECIMALS: Final = selector("decimals()")
SYMBOL: Final = selector("symbol()")
TOTAL_SUPPLY: Final = selector("totalSupply()")
DEPOSIT: Final = selector("deposit()")
"""Wraps the coins that are sent along."""


def balance_call(owner: Address) -> bytes:
    return selector("balanceOf(address)") + encode(owner)


def allowance_call(owner: Address, spender: Address) -> bytes:
    return selector("allowance(address,address)") + encode(owner, spender)


def approve_call(spender: Address, amount: int) -> bytes:
    return selector("approve(address,uint256)") + encode(spender, amount)


def transfer_call(to: Address, amount: int) -> bytes:
    return selector("transfer(address,uint256)") + encode(to, amount)


def transfer_from_call(owner: Address, to: Address, amount: int) -> bytes:
    return selector("transferFrom(address,address,uint256)") + encode(owner, to, amount)


def withdraw_call(amount: int) -> bytes:
    """Unwraps."""
    return selector("withdraw(uint256)") + encode(amount)


def read_amount(answer: bytes) -> Amount:
    """Raises ``MalformedError``: a contract that does not answer one word is no token."""
    if len(answer) != 32:
        raise MalformedError("the contract answers as no token does")
    return Amount(int.from_bytes(answer, "big"))


def read_decimals(answer: bytes) -> int:
    decimals = read_amount(answer)
    if decimals > MAX_DECIMALS:
        raise MalformedError(f"the token claims {decimals} decimals")
    return decimals


def read_symbol(answer: bytes) -> str:
    """What a token calls itself, fit to be shown. Old ones answer with 32 bytes, not with a text.

    It is a name that anybody can give to a token, and proves nothing.
    """
    if len(answer) == 32:
        said = answer.rstrip(b"\0")
    elif len(answer) >= 64 and answer[:32] == bytes(31) + b"\x20":
        said = answer[64 : 64 + min(int.from_bytes(answer[32:64], "big"), 256)]
    else:
        raise MalformedError("the contract answers with no symbol")
    text = said.decode(errors="replace")
    shown = "".join(char for char in text if char.isprintable() and char not in "/\ufffd").strip()
    if not shown:
        raise MalformedError("the contract answers with no symbol")
    return shown[:MAX_SYMBOL]


def token_of(asset: str) -> tuple[str, Address] | None:
    """Chain and contract of a CAIP-19 asset; None if it is no ERC-20 token."""
    chain, _, reference = asset.partition("/")
    kind, _, address = reference.partition(":")
    if kind != "erc20" or not chain.startswith("eip155:") or len(address) != 42:
        return None
    evm_chain_id(chain)
    try:
        return chain, Address(bytes.fromhex(address.removeprefix("0x")))
    except ValueError:
        return None
