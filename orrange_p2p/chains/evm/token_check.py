"""What a token's contract does, as far as it can be seen from outside: may a market list it?

A market's amounts are exact: whoever pays 100 has to have paid 100 when the trade was computed, and
still have it when it is not traded. Contracts refuse a token that keeps a fee; one whose balances
move by themselves nobody can refuse in time, so it is not to be listed at all.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from orrange_p2p.chains.evm import erc20
from orrange_p2p.chains.evm.chain import EvmChain
from orrange_p2p.core.errors import MalformedError, RefusedError
from orrange_p2p.core.ids import Address

__all__ = ["Finding", "Verdict", "check_token", "is_listable"]

_PROBE: Final = Address(b"orrange token check ")
"""An account that nobody has."""
_REBASING: Final = (
    "rebase(uint256,int256)",
    "getPooledEthByShares(uint256)",
    "sharesOf(address)",
    "scaledBalanceOf(address)",
    "rebasingCreditsPerToken()",
)
_STOPPING: Final = (
    "paused()",
    "isBlacklisted(address)",
    "isBlackListed(address)",
    "isFrozen(address)",
)
_PROXY: Final = ("implementation()", "upgradeTo(address)", "upgradeToAndCall(address,bytes)")


class Verdict(enum.Enum):
    """What one look found."""

    GOOD = "good"
    WARNING = "warning"
    """Possible, and somebody is trusted for it."""
    BAD = "bad"
    """Not to be listed."""
    UNKNOWN = "unknown"
    """It could not be tried here."""


class Finding(NamedTuple):
    """One property of a token."""

    what: str
    verdict: Verdict
    why: str


async def check_token(chain: EvmChain, token: Address, holder: Address) -> list[Finding]:
    """All that can be looked at. ``holder``: somebody who holds some of it, whose transfer is
    simulated; nothing is sent. Raises ``WorldError`` if the chain does not answer."""
    code = await chain.code(token)
    if not code:
        return [Finding("contract", Verdict.BAD, "there is no contract at this address")]
    findings = [await _described(chain, token), await _transferred(chain, token, holder)]
    findings.append(
        _with_functions(
            code,
            _REBASING,
            Verdict.BAD,
            "rebasing",
            "balances do not move by themselves, as far as its functions tell",
            "it has {}, as tokens do whose balances move by themselves",
        )
    )
    findings.append(
        _with_functions(
            code,
            _STOPPING,
            Verdict.WARNING,
            "stopping",
            "nobody can stop its transfers, as far as its functions tell",
            "it has {}: somebody can stop transfers, and trades then default",
        )
    )
    findings.append(
        _with_functions(
            code,
            _PROXY,
            Verdict.WARNING,
            "upgrades",
            "its code stays as it is, as far as its functions tell",
            "it has {}: what it does can be changed",
        )
    )
    return findings


async def _described(chain: EvmChain, token: Address) -> Finding:
    try:
        decimals = erc20.read_decimals(await chain.call(token, erc20.DECIMALS))
        symbol = erc20.read_symbol(await chain.call(token, erc20.SYMBOL))
        erc20.read_amount(await chain.call(token, erc20.TOTAL_SUPPLY))
    except (RefusedError, MalformedError) as error:
        return Finding("ERC-20", Verdict.BAD, f"it does not answer as a token: {error}")
    return Finding("ERC-20", Verdict.GOOD, f"{symbol}, {decimals} decimals")


async def _transferred(chain: EvmChain, token: Address, holder: Address) -> Finding:
    """Half of what the holder has goes to an account that is empty: does all of it arrive?"""
    what = "transfer"
    try:
        held = erc20.read_amount(await chain.call(token, erc20.balance_call(holder)))
        if held < 2:
            why = f"0x{holder.hex()} holds none of it: name a holder to try a transfer"
            return Finding(what, Verdict.UNKNOWN, why)
        amount = held // 2
        asked = [
            (token, erc20.balance_call(_PROBE)),
            (token, erc20.transfer_call(_PROBE, amount)),
            (token, erc20.balance_call(_PROBE)),
            (token, erc20.balance_call(holder)),
        ]
        before, moved, after, left = await chain.simulate(holder, asked)
    except MalformedError as error:
        return Finding(what, Verdict.BAD, str(error))
    except RefusedError as error:
        return Finding(what, Verdict.UNKNOWN, f"the endpoint does not simulate: {error}")
    if not moved[0] or (moved[1] and not any(moved[1])):
        return Finding(what, Verdict.BAD, "its transfer refuses")
    try:
        arrived = erc20.read_amount(after[1]) - erc20.read_amount(before[1])
        gone = held - erc20.read_amount(left[1])
    except MalformedError as error:
        return Finding(what, Verdict.BAD, str(error))
    if arrived != amount or gone != amount:
        why = f"of {amount} units {arrived} arrive and {gone} are gone: it keeps a fee"
        return Finding(what, Verdict.BAD, why)
    said = "" if moved[1] else ", and it says nothing of it, as some old tokens do"
    return Finding(what, Verdict.GOOD, f"what is sent arrives whole{said}")


def _with_functions(
    code: bytes, signatures: tuple[str, ...], verdict: Verdict, what: str, good: str, bad: str
) -> Finding:
    """By the selectors in the code: a hint, no proof, since a proxy's code is elsewhere."""
    # A dispatcher compares with PUSH4 <selector>.
    found = [one for one in signatures if b"\x63" + erc20.selector(one) in code]
    if not found:
        return Finding(what, Verdict.GOOD, good)
    return Finding(what, verdict, bad.format(", ".join(found)))


def is_listable(findings: list[Finding]) -> bool:
    """Whether nothing bad was found, and nothing important left untried."""
    return all(one.verdict in (Verdict.GOOD, Verdict.WARNING) for one in findings)
