"""Proofs of bonds on Bitcoin: whose an output is, and for whom (protocol/13-bitcoin-bonds.md).

The network needs none of them: it finds bonds by the keys in the registry. A proof shows a single
bond to somebody who asks, signed by the bond's key over the network and the account that it stands
for. It is true of the output that it names, or of none: what the chain has there is compared.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.bitcoin_bonds import (
    FIRST_TIME_S,
    KEY_BYTES,
    MAX_TIME_S,
    MIN_BOND_SATS,
    MONTHS_AHEAD,
    bond_output,
    lock_times,
    month_of,
    month_start_s,
)
from orrange_p2p.core.errors import ForeignError, InvalidError, MalformedError, SignatureError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, Digest, NetworkId
from orrange_p2p.crypto import secp256k1
from orrange_p2p.crypto.bitcoin import OutPoint, TxOut
from orrange_p2p.crypto.eip712 import StructType

__all__ = ["MAX_PROOF_BYTES", "BondProof", "decode_bond_proof", "proof_digest"]

MAX_PROOF_BYTES: Final = 256
MAX_SATS: Final = 21_000_000 * 10**8
_BOND: Final = StructType(
    "BitcoinBond(address account,bytes32 txid,uint32 vout,uint64 sats,uint64 lockedUntil)"
)


class BondProof(NamedTuple):
    """What a bond's key says of one output."""

    network: NetworkId
    account: Address
    """Who bound the key in the network's registry, or means to."""
    key: bytes
    """Compressed, 33 bytes."""
    txid: bytes
    """32 bytes, in the order of the bytes on the wire."""
    vout: int
    sats: int
    locked_until_s: int
    signature: bytes
    """The key's over ``proof_digest``, 65 bytes."""

    @property
    def outpoint(self) -> OutPoint:
        return OutPoint(self.txid, self.vout)

    def encode(self) -> bytes:
        """The canonical record."""
        return codec.encode(self)

    def verify(self, genesis: Genesis) -> None:
        """That it is well made and signed, which takes no chain to tell.

        Raises ``ForeignError`` for another network's, ``InvalidError`` for terms that no bond has,
        ``SignatureError``.
        """
        if self.network != genesis.network_id:
            raise ForeignError("a proof of a bond for another network")
        month = month_start_s(month_of(self.locked_until_s))
        if self.locked_until_s != month or month < FIRST_TIME_S:
            raise InvalidError("a bond is locked until the begin of a month")
        if self.sats < MIN_BOND_SATS:
            raise InvalidError(f"a bond has at least {MIN_BOND_SATS} sat")
        terms = (self.outpoint, self.sats, self.locked_until_s)
        digest = proof_digest(genesis, self.account, *terms)
        if secp256k1.recover(digest, self.signature) != secp256k1.address_of_key(self.key):
            raise SignatureError("not signed by the bond's key")

    def verify_output(self, output: TxOut, time_s: int) -> None:
        """That an output is the bond; ``time_s``: its block's median time past. Raises
        ``InvalidError``."""
        if output.script != bond_output(self.key, self.locked_until_s):
            raise InvalidError("the output is not locked by this key until this time")
        if output.value != self.sats:
            raise InvalidError(f"the output has {output.value} sat, not {self.sats}")
        if self.locked_until_s not in lock_times(time_s):
            raise InvalidError(
                f"when the output was paid, its lock was over or more than {MONTHS_AHEAD} months "
                "away: such a bond never counts"
            )


def proof_digest(
    genesis: Genesis, account: Address, outpoint: OutPoint, sats: int, locked_until_s: int
) -> Digest:
    """What a bond's key signs for an account."""
    terms = (account, outpoint.txid, outpoint.vout, sats, locked_until_s)
    return Digest(_BOND.digest(genesis.separator, terms))


def decode_bond_proof(octets: bytes) -> BondProof:
    """Raises ``MalformedError`` for what is no record of a proof. Nothing is verified yet."""
    record = codec.array(codec.decode_canonical(octets, MAX_PROOF_BYTES), 8, "proof")
    key = codec.octets(record[2], KEY_BYTES, "key")
    if key[0] not in (2, 3):
        raise MalformedError("a bond's key is compressed")
    return BondProof(
        NetworkId(codec.octets(record[0], 32, "network")),
        Address(codec.octets(record[1], 20, "account")),
        key,
        codec.octets(record[3], 32, "transaction"),
        codec.uint(record[4], "output", (1 << 32) - 1),
        codec.uint(record[5], "satoshis", MAX_SATS),
        codec.uint(record[6], "lock time", MAX_TIME_S),
        codec.octets(record[7], secp256k1.SIGNATURE_BYTES, "signature"),
    )
