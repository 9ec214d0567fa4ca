"""Our transactions are byte for byte those of another implementation."""

from __future__ import annotations

from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from orrange_p2p.chains.evm.fees import Offer
from orrange_p2p.chains.evm.transactions import Transaction, sign
from orrange_p2p.core.ids import Address
from orrange_p2p.signers.memory import MemorySigner

number = st.integers(0, 2**63 - 1)


@settings(max_examples=50)
@given(
    st.builds(
        Transaction,
        st.integers(1, 2**63 - 1),
        number,
        st.builds(Offer, number, number),
        st.integers(1, 2**63 - 1),
        st.none() | st.binary(min_size=20, max_size=20).map(Address),
        st.integers(0, 2**256 - 1),
        st.binary(max_size=100),
    ),
    st.integers(1, 2**255).map(lambda secret: secret.to_bytes(32, "big")),
)
def test_eth_account_signs_the_same_bytes(transaction: Transaction, secret: bytes) -> None:
    fields = {
        "type": 2,
        "chainId": transaction.chain_id,
        "nonce": transaction.nonce,
        "maxPriorityFeePerGas": transaction.offer.priority_fee_wei,
        "maxFeePerGas": transaction.offer.max_fee_wei,
        "gas": transaction.gas_limit,
        "to": transaction.to or b"",
        "value": transaction.value,
        "data": transaction.data,
    }
    theirs = Account.sign_transaction(fields, secret)
    assert sign(transaction, MemorySigner(secret)) == (theirs.hash, theirs.raw_transaction)
