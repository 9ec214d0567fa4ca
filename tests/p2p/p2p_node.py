"""A node of ours in a process of its own.

python p2p_node.py echo            echoes requests and repeats what it hears, to its last byte
python p2p_node.py count NUMBER    prints messages a second once it has heard so many
"""

from __future__ import annotations

import sys

import trio

from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.libp2p_transport import open_transport
from orrange_p2p.ports import Verdict

TOPIC = "/orrange/test/1"


async def main(mode: str, number: int) -> None:
    heard = 0
    started = 0.0
    enough = trio.Event()

    async def hear(peer: PeerId, payload: bytes) -> Verdict:
        nonlocal heard, started
        started = started or trio.current_time()
        heard += 1
        if mode == "echo":
            await transport.publish(TOPIC, b"heard " + payload)
        elif heard == number:
            enough.set()
        return Verdict.ACCEPT

    async def echo(peer: PeerId, request: bytes) -> bytes:
        return request

    async with open_transport(secret=b"n" * 32, listen=["/ip4/127.0.0.1/tcp/0"]) as transport:
        transport.serve("/orrange/echo/1", echo)
        await transport.subscribe(TOPIC, hear)
        print(transport.addresses[0], flush=True)
        await enough.wait()
        print(round(number / (trio.current_time() - started)), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
