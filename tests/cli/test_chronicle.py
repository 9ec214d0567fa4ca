"""What nodes told of their epochs, compared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from orrange_p2p.cli.chronicle import Chronicle
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.core.errors import WorldError


class Telling:
    """As much of a node's process as a chronicle asks: roots by epoch, told from ``since`` on."""

    def __init__(self, *roots: str) -> None:
        self.roots = dict(enumerate(roots, start=1))
        self.process = SimpleNamespace(poll=lambda: None)
        self.client = self

    async def call(self, method: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        if method == "commits":
            return []
        return [
            {"epoch": epoch, "durable_ms": epoch, "root": root}
            for epoch, root in self.roots.items()
            if epoch >= params["since"]
        ]


def chronicle_of(*nodes: Telling) -> Chronicle:
    return Chronicle(cast("list[NodeProcess]", list(nodes)))


async def test_the_last_epoch_that_all_have_is_compared() -> None:
    chronicle = chronicle_of(Telling("a", "b", "c"), Telling("a", "b"))
    await chronicle.fetch()
    assert chronicle.compare() == (2, ["b", "b"])


async def test_a_node_that_mended_its_state_has_said_what_it_said() -> None:
    sound, sick = Telling("a", "b", "c"), Telling("a", "b", "wrong")
    chronicle = chronicle_of(sound, sick)
    await chronicle.fetch()
    sound.roots[4] = sick.roots[4] = "d"
    sick.roots[3] = "c"
    await chronicle.fetch()
    assert chronicle.compare() == (3, ["c", "wrong"])


async def test_nodes_without_a_common_epoch_cannot_be_compared() -> None:
    chronicle = chronicle_of(Telling("a"), Telling())
    await chronicle.fetch()
    with pytest.raises(WorldError, match="no epoch in common"):
        chronicle.compare()
