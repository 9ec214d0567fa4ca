"""From a trade that binds to the two locks of its swap (protocol/09-swaps.md, Terms).

Each side says in its accept who it is on either chain, and the one with the secret its hash. So
the log brings both to both, signed, in order and kept by everybody: no two nodes need to talk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.errors import ConfigError, InvalidError, MalformedError
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Address, Amount, MatchId, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.operations import MAX_TERMS_BYTES, Side
from orrange_p2p.core.swaps.binding import parse_trade, trade_items
from orrange_p2p.core.swaps.htlc import Role, Swap
from orrange_p2p.core.swaps.legs import Lock
from orrange_p2p.core.swaps.schedule import (
    ChainClass,
    Schedule,
    chain_classes,
    is_base_long,
    schedule,
)
from orrange_p2p.crypto.hashes import hmac_sha256
from orrange_p2p.crypto.secp256k1 import is_public_key

__all__ = [
    "Deal",
    "SwapTerms",
    "agree",
    "chain_of",
    "decode_swap",
    "encode_swap",
    "role_of",
    "secret_of",
]

VERSION: Final = 1
MAX_PARTY_BYTES: Final = 64
MAX_SWAP_BYTES: Final = 4096
_ZERO_ADDRESS: Final = bytes(20)


class SwapTerms(NamedTuple):
    """What one side says of itself."""

    sender: bytes
    """Who gets back what it locks; as in ``Lock``."""
    recipient: bytes
    """Who gets what is locked for it; as in ``Lock``."""
    hashlock: bytes
    """SHA-256 of the secret, from the initiator; empty from the responder."""

    def encode(self) -> bytes:
        return codec.encode((VERSION, *self))

    @classmethod
    def decode(cls, data: bytes) -> SwapTerms:
        """Raises ``MalformedError``."""
        value = codec.decode_canonical(data, MAX_TERMS_BYTES)
        version, sender, recipient, hashlock = codec.array(value, 4, "terms of a swap")
        if codec.uint(version, "version of the terms") != VERSION:
            raise MalformedError(f"terms of version {version}, and this node knows {VERSION} only")
        return cls(
            codec.octets_upto(sender, MAX_PARTY_BYTES, "sender"),
            codec.octets_upto(recipient, MAX_PARTY_BYTES, "recipient"),
            codec.octets_upto(hashlock, 32, "hashlock"),
        )


class Deal(NamedTuple):
    """A trade of ours that is settled by a swap."""

    trade: Trade
    maker: Address
    """Author of the order that was met."""
    bound_ms: TimeMs
    """Epoch time at which it bound."""
    side: Side
    """Ours."""

    @property
    def id(self) -> MatchId:
        return self.trade.id

    def encode(self) -> bytes:
        return codec.encode((trade_items(self.trade), self.maker, self.bound_ms, int(self.side)))

    @classmethod
    def decode(cls, data: bytes) -> Deal:
        """Raises ``MalformedError``."""
        value = codec.decode_canonical(data, MAX_SWAP_BYTES)
        trade, maker, bound_ms, side = codec.array(value, 4, "deal")
        return cls(
            parse_trade(trade),
            Address(codec.octets(maker, 20, "maker")),
            TimeMs(codec.uint(bound_ms, "bound_ms")),
            Side(codec.uint(side, "side", Side.SELL)),
        )


def chain_of(asset: str) -> str:
    """The CAIP-2 id that a CAIP-19 id starts with."""
    return asset.partition("/")[0]


def role_of(market: Market, side: Side) -> Role:
    """Which role a side of the market has. Raises ``ConfigError`` for an unknown timing."""
    gives_base = side is Side.SELL
    gives_long = gives_base == is_base_long(*chain_classes(market.timing))
    return Role.INITIATOR if gives_long else Role.RESPONDER


def secret_of(root: bytes, trade: MatchId) -> bytes:
    """The 32 bytes that an initiator shows to take what it swaps for.

    From the seed and the trade's name, so a lost store loses no secret.
    """
    return hmac_sha256(root, b"orrange/swap-secret/1" + trade)


def agree(market: Market, deal: Deal, ours: SwapTerms, theirs: bytes) -> Swap:
    """The swap from our side; ``theirs``: what the other's accept says.

    Raises ``PeerError`` if with that there can be no swap.
    """
    trade, _, bound_ms, side = deal
    said = SwapTerms.decode(theirs)
    is_seller = side is Side.SELL
    seller, buyer = (ours, said) if is_seller else (said, ours)
    base_class, quote_class = chain_classes(market.timing)
    is_base_long_leg = is_base_long(base_class, quote_class)
    long, short = (base_class, quote_class) if is_base_long_leg else (quote_class, base_class)
    times = schedule(bound_ms, long, short)
    role = role_of(market, side)
    initiator, responder = (ours, said) if role is Role.INITIATOR else (said, ours)
    if len(initiator.hashlock) != 32 or responder.hashlock:
        raise InvalidError("the hash comes from the initiator, and from nobody else")

    def lock(asset: str, amount: Amount, sender: bytes, recipient: bytes, is_long: bool) -> Lock:
        chain = chain_of(asset)
        _check_party(chain, sender)
        _check_party(chain, recipient)
        if not 0 < amount <= _MOST[chain.partition(":")[0]]:
            raise InvalidError(f"no lock on {chain} holds {amount} units")
        until = times.long_timelock_s if is_long else times.short_timelock_s
        return Lock(*(chain, asset, amount, initiator.hashlock, trade.id, sender, recipient, until))

    base = lock(
        market.base, trade.base_amount, seller.sender, buyer.recipient, is_long=is_base_long_leg
    )
    quote = lock(
        market.quote,
        trade.quote_amount,
        buyer.sender,
        seller.recipient,
        is_long=not is_base_long_leg,
    )
    if is_seller:
        return Swap(role, base, quote, base_class, quote_class, times)
    return Swap(role, quote, base, quote_class, base_class, times)


def _check_address(party: bytes) -> bool:
    return len(party) == 20 and party != _ZERO_ADDRESS


_PARTIES: Final[Mapping[str, Callable[[bytes], bool]]] = {
    "eip155": _check_address,
    "bip122": lambda party: len(party) == 33 and is_public_key(party),
}
"""Who can be a party, by the namespace of a chain."""


_MOST: Final = {"eip155": (1 << 96) - 1, "bip122": 21_000_000 * 10**8}
"""What a lock can hold: a word of ``HashTimelock`` has 96 bits for it; all coins there are."""


def _check_party(chain: str, party: bytes) -> None:
    check = _PARTIES.get(chain.partition(":")[0])
    if check is None:
        raise ConfigError(f"no swap has a leg on {chain}: only on Bitcoin's and EVM chains")
    if not check(party):
        raise InvalidError(f"0x{party.hex()} is nobody on {chain}")


# --- as it is kept, and handed to a watchtower ---


def encode_swap(swap: Swap) -> bytes:
    """Canonical; ``decode_swap`` reads it back."""
    role, own, other, own_class, other_class, times = swap
    return codec.encode(
        (VERSION, int(role), _items(own), _items(other), own_class, other_class, times)
    )


def decode_swap(data: bytes) -> Swap:
    """Raises ``MalformedError``."""
    value = codec.decode_canonical(data, MAX_SWAP_BYTES)
    version, role, own, other, own_class, other_class, times = codec.array(value, 7, "swap")
    if codec.uint(version, "version of the swap") != VERSION:
        raise MalformedError(f"a swap of version {version}, and this node knows {VERSION} only")
    return Swap(
        Role(codec.uint(role, "role", Role.RESPONDER)),
        _lock(own),
        _lock(other),
        ChainClass(*_numbers(own_class, len(ChainClass._fields), "chain class")),
        ChainClass(*_numbers(other_class, len(ChainClass._fields), "chain class")),
        Schedule(*_numbers(times, len(Schedule._fields), "schedule")),
    )


def _items(lock: Lock) -> tuple[codec.Value, ...]:
    return (*lock[:2], lock.amount.to_bytes(32, "big"), *lock[3:])


def _lock(value: codec.Value) -> Lock:
    chain, asset, amount, hashlock, trade, sender, recipient, timelock_s = codec.array(
        value, 8, "lock"
    )
    return Lock(
        codec.text(chain, 192, "chain"),
        codec.text(asset, 192, "asset"),
        Amount(int.from_bytes(codec.octets(amount, 32, "amount"), "big")),
        codec.octets(hashlock, 32, "hashlock"),
        MatchId(codec.octets(trade, 32, "trade")),
        codec.octets_upto(sender, MAX_PARTY_BYTES, "sender"),
        codec.octets_upto(recipient, MAX_PARTY_BYTES, "recipient"),
        codec.uint(timelock_s, "timelock_s"),
    )


def _numbers(value: codec.Value, count: int, what: str) -> list[int]:
    return [codec.uint(one, what) for one in codec.array(value, count, what)]
