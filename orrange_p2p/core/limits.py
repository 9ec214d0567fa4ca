"""How much an author may do: a token bucket of operations, refilled round by round.

Part of the book's state, so that every node says the same of the same operation
(protocol/04-book.md, Limits). Only places and amends cost a token; cancels and accepts are exempt,
because an author must always be able to leave.
"""

from __future__ import annotations

from orrange_p2p.core.genesis import Parameters


def refilled(tokens: int, rounds: int, parameters: Parameters, halved: bool) -> int:
    """Tokens in the bucket after ``rounds`` rounds; all of an author's limits halve together."""
    share = 2 if halved else 1
    capacity = parameters.operations_burst // share
    return min(capacity, tokens + rounds * parameters.operations_per_round // share)


def most_open_orders(parameters: Parameters, halved: bool) -> int:
    """Most orders an author may have live."""
    return parameters.open_orders // (2 if halved else 1)
