"""What goes over HTTP, as the API's own description (OpenAPI) tells it.

Amounts, prices and quantities are whole numbers of the smallest units, as text: a JSON number would
lose digits. ``/v1/markets`` says how many of them make a coin, a tick and a lot.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AddressBody",
    "Book",
    "Bundle",
    "Cancelled",
    "Certified",
    "CertifiedMatches",
    "Code",
    "DelegationPlan",
    "DelegationRow",
    "DelegationWish",
    "EntryBody",
    "Epoch",
    "Halted",
    "Log",
    "Market",
    "Network",
    "OrderBody",
    "OrderProof",
    "OrderRow",
    "Peer",
    "Placed",
    "Problem",
    "Reputation",
    "Session",
    "SignedDelegation",
    "Status",
    "SwapRow",
    "Taken",
    "TapeRow",
    "TradeRow",
    "WalletCall",
    "WalletLogin",
    "WalletRow",
    "WalletWish",
]

Whole = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,77})$", examples=["2500"])]
"""A whole number as text."""
OrderNumber = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,18}$", examples=["10050"])]
"""A price in ticks or a quantity in lots."""
Hex32 = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
Octets = Annotated[str, Field(pattern=r"^0x[0-9a-f]*$")]
Account = Annotated[str, Field(pattern=r"^0x[0-9a-f]{40}$")]
OrderName = Annotated[str, Field(pattern=r"^0x[0-9a-f]{40}/[0-9]{1,19}/[0-9]{1,4}$")]
"""``0x<author>/<entry>/<position>``"""
SideName = Literal["buy", "sell"]
Natural = Annotated[int, Field(ge=0, le=2**63 - 1)]


class _Said(BaseModel):
    """An answer. More may be added to it."""

    model_config = ConfigDict(extra="allow")


class _Asked(BaseModel):
    """A request: what is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Problem(_Said):
    """Why a request was refused. ``code`` is for programs, ``message`` for people."""

    code: str
    message: str


class Status(_Said):
    version: str
    network: str
    network_id: Hex32
    peer_id: str
    addresses: list[str]
    roles: list[str]
    halt: str
    signs_nothing: str | None
    authors: list[Account]
    uptime_s: Natural
    markets: list[dict[str, Any]]


class Network(_Said):
    """The network's file, from which everything else can be checked."""

    name: str
    network_id: Hex32
    genesis: str
    """``network.toml``"""


class Market(_Said):
    market: Hex32
    name: str | None
    base: str
    quote: str
    base_decimals: int | None
    quote_decimals: int | None
    tick_size: Whole
    lot_size: Whole
    settlement: str
    authors: list[Account]


Level = Annotated[list[Whole], Field(min_length=3, max_length=3)]
"""Price in ticks, lots, number of orders."""


class Book(_Said):
    epoch: Natural
    bids: list[Level]
    asks: list[Level]


class Epoch(_Said):
    epoch: Natural
    root: Hex32
    time_ms: Natural
    orders: Natural
    matches: Natural
    trades: Natural


class TapeRow(_Said):
    """A match, as everybody sees it: bound once both sides accept."""

    epoch: Natural
    time_ms: Natural
    side: SideName
    """The taker's."""
    price: Whole
    lots: Whole


class OrderBody(_Asked):
    """A new order, in ticks and lots."""

    market: Hex32 | None = None
    author: Account | None = None
    side: SideName
    price: OrderNumber
    quantity: OrderNumber
    time_in_force: Literal["gtc", "gtt", "gte", "ioc", "fok"] = "gtc"
    expiry: Natural = 0
    post_only: bool = False
    self_trade: Literal["cancel_newest", "cancel_oldest", "decrement"] = "cancel_newest"
    min_quantity: Whole = "0"
    max_slippage: Whole | None = None
    min_reputation: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class Placed(_Said):
    order: OrderName


class Cancelled(_Said):
    order: OrderName
    """The entry and position that hold the cancel."""


class OrderRow(_Said):
    order: OrderName
    state: Literal["pending", "open", "matched", "ended", "refused"]
    side: SideName
    price: Whole
    quantity: Whole
    open: Whole
    reserved: Whole
    filled: Whole
    reason: str | None
    epoch: Natural | None


class OrderProof(_Said):
    market: Hex32
    epoch: Natural
    proof: Octets


class Certified(_Said):
    """A state that a quorum of witnesses vouches for: the certificate, and every leaf of the map
    of live orders, ascending by key, which hash to the root in it."""

    market: Hex32
    epoch: Natural
    certificate: Octets
    orders: list[Annotated[list[str], Field(min_length=2, max_length=2)]]


class CertifiedMatches(_Said):
    """As ``Certified``, of the map of pending matches."""

    market: Hex32
    epoch: Natural
    certificate: Octets
    matches: list[Annotated[list[str], Field(min_length=2, max_length=2)]]


class Handovers(_Said):
    """Of successive eras, each a `Handover` of protocol/cddl/state.cddl."""

    market: Hex32
    since: Natural
    handovers: list[Octets]


class Log(_Said):
    """A proof of an account in a certified state, and the entries beyond what was cut there."""

    market: Hex32
    epoch: Natural
    proof: Octets
    entries: list[Octets]


class EntryBody(_Asked):
    """A signed entry (protocol/01-records.md)."""

    market: Hex32 | None = None
    entry: Annotated[str, Field(pattern=r"^0x([0-9a-f]{2})+$", max_length=2 + 2 * 65_536)]


class Taken(_Said):
    author: Account
    seq: Natural


class DelegationRow(_Said):
    """A trader key of this node, and the account that owns what it does."""

    session: Account
    owner: Account
    cap: Whole
    expiry_ms: Natural
    active: bool


class DelegationWish(_Asked):
    """Which key shall trade for which account. `cap`: most lots; `spend`: most of quote, in its
    smallest units; `expiry_ms` 0 takes it back."""

    market: Hex32 | None = None
    owner: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    session: Account
    cap: Whole = "0"
    spend: Whole = "0"
    expiry_ms: Natural


class SignedDelegation(DelegationWish):
    """The wish, and the wallet's signature of the entry that the plan showed."""

    seq: Natural
    signature: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{130}$")]


class WalletCall(_Said):
    """A transaction for the wallet to send."""

    what: str
    chain_id: Natural
    to: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    data: Octets


class DelegationPlan(_Said):
    """What the wallet signs (`eth_signTypedData_v4`), and what it sends afterwards."""

    owner: Account
    session: Account
    seq: Natural
    typed_data: dict[str, Any]
    calls: list[WalletCall]


class ReputationTerm(_Said):
    """One event of a chain, and what it counts."""

    kind: str
    chain: str
    block: Natural
    log: Natural
    value: Whole


class ReputationRow(_Said):
    """A score; `terms` where one account was asked for."""

    account: Account
    total: Whole
    bonds: Whole
    trades: Whole
    defaults: Whole
    age_days: Natural
    terms: list[ReputationTerm] | None = None


class Reputation(_Said):
    """All scores at a block have one digest: nodes that have read the same say the same."""

    chain: str
    block: Natural
    hash: Hex32
    day: Natural
    accounts: Natural
    digest: Hex32
    why_not: str | None
    scores: list[ReputationRow]


class TradeRow(_Said):
    position: Natural
    id: Hex32
    buyer: Account
    seller: Account
    maker: Account
    base_amount: Whole
    quote_amount: Whole
    lots: Whole
    price: Whole
    epoch: Natural
    bound_ms: Natural
    state: str
    block: Natural | None
    tx_hash: str | None
    blamed: Account | None


class SwapRow(_Said):
    trade: Hex32
    market: Hex32
    bound_ms: Natural
    side: SideName
    state: str
    problem: str | None
    role: str | None
    hashlock: str | None
    preimage: str | None
    gives: dict[str, Any] | None
    gets: dict[str, Any] | None


class Bundle(BaseModel):
    """A recovery bundle: whoever has it and the seed can end the swap."""

    model_config = ConfigDict(extra="forbid")
    bundle: Annotated[str, Field(min_length=1, max_length=65_536)]


class Peer(_Said):
    peer_id: str
    is_connected: bool
    addresses: list[str]
    agent: str


class AddressBody(_Asked):
    """A multiaddr that ends in /p2p/<peer id>."""

    address: Annotated[str, Field(min_length=1, max_length=512)]


class Halted(_Said):
    cancels_signed: bool
    cancels_committed: bool


class WalletRow(_Said):
    trader: int | None
    account: str | None
    chain: str
    asset: str
    symbol: str | None
    decimals: int | None
    amount: Whole | None
    problem: str | None


class WalletWish(_Asked):
    """What to send, approve, wrap (deposit) or unwrap (withdraw). ``id`` names it: the same again
    is not done again."""

    id: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,64}$")]
    kind: Literal["send", "approve", "deposit", "withdraw"]
    asset: Annotated[str, Field(max_length=256)]
    amount: Whole
    to: Account | None = None
    chain: Annotated[str, Field(max_length=64)] | None = None
    trader: Annotated[int, Field(ge=1, le=1000)] = 1


class Code(_Asked):
    """The code that ``orrange dashboard`` prints; good once, for a minute."""

    code: Annotated[str, Field(min_length=1, max_length=128)]


class WalletLogin(_Asked):
    """An EIP-4361 message over the nonce of ``/v1/sessions/nonce``, and the wallet's signature."""

    message: Annotated[str, Field(min_length=1, max_length=4096)]
    signature: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{130}$")]


class Session(_Said):
    """Who is asking, and what that may do."""

    name: str
    scopes: list[Literal["read", "trade", "admin"]]
    expires_s: Natural | None
    token: str | None = None
    """To be sent as ``Authorization: Bearer``; a browser keeps it as a cookie instead."""
