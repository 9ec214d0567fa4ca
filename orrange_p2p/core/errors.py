"""Every error of the project, drawn once.

    OrrangeError
    +-- CallerError            our own caller is wrong: fix the call, the file or the flag
    |   +-- ConfigError          a configuration, genesis or key file cannot be used
    |   +-- IllegalTransitionError   an event that the state's table does not list
    |   +-- FeedError            a line of a recorded feed cannot be read
    +-- PeerError              a peer is wrong: it pays, the node goes on
    |   +-- MalformedError       the bytes are not a canonical record of this protocol
    |   |   +-- OversizedError     larger than the protocol allows, so never decoded
    |   +-- ForeignError         well formed, but of another network, market or era
    |   +-- InvalidError         well formed, and breaks a validity rule
    |   |   +-- SignatureError     not signed by the key it names
    +-- WorldError             the outside failed: disk, network, chain; worth another try
        +-- StoreError           the store refused or is damaged
        +-- UnreachableError     no such peer or endpoint answers
        +-- DeadlineError        an answer did not come in time
        +-- HaltedError          the market stands still at this node, which is contradicted
        +-- PortInUseError       the address to listen on is taken
        +-- RefusedError         an endpoint of a chain answers that it will not
        |   +-- RevertedError      a contract would refuse the call
        +-- DisagreementError    a chain's endpoints contradict each other
        +-- ReorganisedError     a block that was final is gone

The core raises; only the supervisor in ``daemon`` catches ``Exception``.
"""

from __future__ import annotations


class OrrangeError(Exception):
    """Root of the tree. Never raised itself."""


class CallerError(OrrangeError):
    """Our own caller did something it can mend. Exit status 2 on the command line."""


class ConfigError(CallerError):
    """A configuration, genesis or key file is missing, unreadable or contradicts itself."""


class IllegalTransitionError(CallerError):
    """An event arrived that the table of the present state does not list; nothing changed."""


class FeedError(CallerError):
    """One line of a recorded feed cannot be read. Carries the line's number, counted from 1."""

    def __init__(self, line_number: int, reason: str) -> None:
        super().__init__(f"line {line_number}: {reason}")
        self.line_number = line_number
        self.reason = reason


class PeerError(OrrangeError):
    """Bytes from outside are wrong. Whoever sent them pays; our state is unchanged."""


class MalformedError(PeerError):
    """Not a canonical record: cannot be decoded, wrong shape, wrong type, or not re-encodable."""


class OversizedError(MalformedError):
    """Larger than its limit. Raised before any decoding, so it costs us nothing."""


class ForeignError(PeerError):
    """A record of another network, market or era. Objectively invalid here."""


class InvalidError(PeerError):
    """Well formed, but outside a range or rule that holds whatever the state of the book."""


class SignatureError(InvalidError):
    """The signature is malformed, has a high s, or recovers to another key."""


class WorldError(OrrangeError):
    """Something outside failed. Nothing is wrong with the data; trying again may help."""


class StoreError(WorldError):
    """The store cannot be opened, read or written."""


class UnreachableError(WorldError):
    """No connection to a peer or endpoint could be made, or it broke."""


class DeadlineError(WorldError):
    """An answer from outside did not arrive before its deadline."""


class HaltedError(WorldError):
    """A market stands still at this node: a quorum contradicts its state, until it is mended."""


class PortInUseError(WorldError):
    """The address to listen on is taken by another process."""


class RefusedError(WorldError):
    """An endpoint of a chain, or a node, answered with an error. Carries its code and its text."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class RevertedError(RefusedError):
    """A contract would refuse this call or transaction. Carries the bytes it gave as reason."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message, code=3)
        self.data = data


class DisagreementError(WorldError):
    """A chain's endpoints contradict each other: none is used before somebody has looked."""


class ReorganisedError(WorldError):
    """A block that was final has been replaced: what was built on it has to be looked at."""
