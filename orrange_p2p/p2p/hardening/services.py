"""Services: how libp2p's background tasks are run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.tools.anyio_service.trio_tasks import TaskWithChildrenAPI

from orrange_p2p.p2p.limits import Counters

__all__ = ["GuardedManager", "run_guarded"]


class GuardedManager(TrioManager):
    """Runs a service whose ordinary tasks may fail without taking it along.

    Stock (trio_manager.py:385): an exception in any task, and a peer can cause several, cancels
    the whole service and then the program. Here it is counted; only the service's own ``run``
    and its daemon tasks still end it, because without them it does not work.

    Stock (trio_manager.py:277): each new task searches the tree of all tasks for its parent, so
    one RPC of 5,000 tiny messages froze the loop for 9 s. Here every task is a root task.
    """

    def __init__(self, service: Any, counters: Counters) -> None:
        super().__init__(service)
        self._counters = counters

    def _find_parent_task(self, trio_task: trio.lowlevel.Task) -> TaskWithChildrenAPI | None:
        return None

    def run_task(
        self,
        async_fn: Callable[..., Awaitable[Any]],
        *args: Any,
        daemon: bool = False,
        name: str | None = None,
        _internal: bool = False,
    ) -> None:
        if daemon or _internal:
            super().run_task(async_fn, *args, daemon=daemon, name=name, _internal=_internal)
        else:
            super().run_task(self._guarded, async_fn, args, name=name or repr(async_fn))

    async def _guarded(self, async_fn: Callable[..., Awaitable[Any]], args: Any) -> None:
        try:
            await async_fn(*args)
        except Exception:
            self._counters["libp2p_task_failures"] += 1


@asynccontextmanager
async def run_guarded(service: Any, counters: Counters) -> AsyncIterator[None]:
    """Run ``service`` in a nursery of this block and stop it on leaving."""
    async with trio.open_nursery() as nursery:
        manager = GuardedManager(service, counters)
        nursery.start_soon(manager.run)
        await manager.wait_started()
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
