"""Sign-In with Ethereum: the message of EIP-4361, and who signed it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct

from orrange_p2p.core.errors import InvalidError, MalformedError
from orrange_p2p.core.siwe import parse_sign_in, signer_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# The shape of the example in EIP-4361 itself.
TEXT = """example.com wants you to sign in with your Ethereum account:
0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2

I accept the ExampleOrg Terms of Service: https://example.com/tos

URI: https://example.com/login
Version: 1
Chain ID: 1
Nonce: 32891756
Issued At: 2021-09-30T16:25:24Z
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/my-web2-claim.json"""


def test_the_example_of_the_standard() -> None:
    said = parse_sign_in(TEXT)
    assert said.domain == "example.com" and said.nonce == "32891756"
    assert said.address.hex() == "c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
    said.check("example.com", NOW)
    with pytest.raises(InvalidError, match="signed for 'example\\.com'"):
        said.check("evil.example", NOW)


def test_it_has_its_time() -> None:
    text = TEXT.replace(
        "24Z\n", "24Z\nExpiration Time: 2026-01-01T00:00:00Z\nNot Before: 2025-01-01T00:00:00Z\n"
    )
    said = parse_sign_in(text)
    said.check("example.com", datetime(2025, 6, 1, tzinfo=UTC))
    with pytest.raises(InvalidError, match="has expired"):
        said.check("example.com", NOW)
    with pytest.raises(InvalidError, match="not yet good"):
        said.check("example.com", datetime(2024, 6, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.replace("Version: 1", "Version: 2"),
        TEXT.replace("0xC0", "0xC"),
        TEXT.replace("Nonce: 32891756", "Nonce: 1"),
        TEXT.replace("2021-09-30T16:25:24Z", "yesterday"),
        TEXT.replace("2021-09-30T16:25:24Z", "2021-09-30T16:25:24"),
        TEXT.replace("Chain ID: 1\n", ""),
        TEXT + "\nmore",
        TEXT + "x" * 5000,
    ],
)
def test_what_is_no_such_message_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_sign_in(text)


def test_a_wallet_librarys_signature_names_its_account() -> None:
    key = PrivateKey(b"\x05" * 32)
    signed = Account.sign_message(encode_defunct(text=TEXT), key.secret)
    expected = Account.from_key(key.secret).address.lower()
    assert "0x" + signer_of(TEXT, bytes(signed.signature)).hex() == expected
    assert "0x" + signer_of(TEXT + " ", bytes(signed.signature)).hex() != expected
