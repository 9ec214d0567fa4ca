"""Sign-In with Ethereum (EIP-4361): the message a wallet shows and signs (EIP-191)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, NamedTuple

from orrange_p2p.core.errors import InvalidError, MalformedError
from orrange_p2p.core.ids import Address
from orrange_p2p.crypto import secp256k1
from orrange_p2p.crypto.hashes import keccak256

__all__ = ["SignIn", "parse_sign_in", "signer_of"]

MAX_BYTES: Final = 4096
_PATTERN: Final = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?P<domain>[^\s/?#]+)"
    r" wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9a-fA-F]{40})\n\n"
    r"(?:(?P<statement>[^\n]*)\n)?\n"
    r"URI: (?P<uri>[^\n]+)\n"
    r"Version: (?P<version>[^\n]+)\n"
    r"Chain ID: (?P<chain_id>[0-9]{1,18})\n"
    r"Nonce: (?P<nonce>[0-9A-Za-z]{8,128})\n"
    r"Issued At: (?P<issued>[^\n]+)"
    r"(?:\nExpiration Time: (?P<expires>[^\n]+))?"
    r"(?:\nNot Before: (?P<not_before>[^\n]+))?"
    r"(?:\nRequest ID: (?P<request>[^\n]*))?"
    r"(?:\nResources:(?P<resources>(?:\n- [^\n]+)*))?"
)


class SignIn(NamedTuple):
    """What a wallet agreed to."""

    domain: str
    address: Address
    uri: str
    nonce: str
    expires: datetime | None
    not_before: datetime | None

    def check(self, domain: str, now: datetime) -> None:
        """Raises ``InvalidError`` unless it is for this page, and now."""
        if self.domain != domain:
            raise InvalidError(f"signed for {self.domain!r}, not for {domain!r}")
        if self.expires is not None and self.expires <= now:
            raise InvalidError("what was signed has expired")
        if self.not_before is not None and now < self.not_before:
            raise InvalidError("what was signed is not yet good")


def parse_sign_in(text: str) -> SignIn:
    """Raises ``MalformedError`` for what is no such message."""
    found = _PATTERN.fullmatch(text) if len(text.encode()) <= MAX_BYTES else None
    if found is None:
        raise MalformedError("not a message of EIP-4361")
    if found["version"] != "1":
        raise MalformedError(f"version {found['version']} of EIP-4361; known is 1")
    _time(found["issued"])
    return SignIn(
        found["domain"],
        Address(bytes.fromhex(found["address"][2:])),
        found["uri"],
        found["nonce"],
        _time(found["expires"]) if found["expires"] else None,
        _time(found["not_before"]) if found["not_before"] else None,
    )


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise MalformedError(f"{text!r} is no time of RFC 3339") from None
    if time.tzinfo is None:
        raise MalformedError(f"{text!r} has no time zone")
    return time


def signer_of(text: str, signature: bytes) -> Address:
    """Who signed ``text`` as a personal message. Raises ``SignatureError``."""
    octets = text.encode()
    prefix = b"\x19Ethereum Signed Message:\n" + str(len(octets)).encode()
    return Address(secp256k1.recover(keccak256(prefix + octets), signature))
