"""A stock py-libp2p node with gossipsub, as its documentation has it, for others to attack.

python p2p_stock_node.py serve [max_connections]    prints its address, lives until stdin ends
python p2p_stock_node.py talk                       the same, prints what it hears and answers
python p2p_stock_node.py hear                       prints its address and what it hears
python p2p_stock_node.py burst COUNT                sends in a loop, prints how many arrived
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack, suppress
from typing import Any

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.tools.anyio_service import background_trio_service

TOPIC = "/orrange/test/1"
NEVER_READS = "/orrange/never-reads/1"
BYTEWISE = "/orrange/bytewise/1"


async def start(stack: AsyncExitStack, secret: bytes, connections: int) -> tuple[Any, Pubsub, str]:
    keys = create_new_key_pair(secret)
    noise = NoiseTransport(keys, noise_privkey=create_new_x25519_key_pair().private_key)
    host = new_host(
        key_pair=keys,
        sec_opt={NOISE: noise},
        muxer_preference="YAMUX",
        connection_config=ConnectionConfig(
            max_connections=connections,
            high_watermark=connections,
            low_watermark=0,
            min_connections=0,
        ),
    )
    router = GossipSub(
        ["/meshsub/1.1.0"], 6, 4, 12, heartbeat_interval=1, spam_protection_enabled=False
    )
    pubsub = Pubsub(host, router, strict_signing=True)
    await stack.enter_async_context(host.run([multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]))
    await stack.enter_async_context(background_trio_service(pubsub))
    await stack.enter_async_context(background_trio_service(router))
    await pubsub.wait_until_ready()
    return host, pubsub, str(host.get_addrs()[0])


def validate(forwarder: Any, message: Any) -> bool:
    if message.data == b"raise":
        raise RuntimeError("a validator with a fault")
    return True


async def never_reads(stream: Any) -> None:
    await trio.sleep_forever()


async def read_bytewise(stream: Any) -> None:
    """Until the stream ends; then a byte to say so."""
    with suppress(Exception):
        while await stream.read(1):
            pass
    with suppress(Exception):
        await stream.write(b"!")


async def serve(connections: int) -> None:
    async with AsyncExitStack() as stack:
        host, pubsub, address = await start(stack, b"s" * 32, connections)
        pubsub.set_topic_validator(TOPIC, validate, is_async_validator=False)
        await pubsub.subscribe(TOPIC)
        host.set_stream_handler(NEVER_READS, never_reads)
        host.set_stream_handler(BYTEWISE, read_bytewise)
        print(address, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


async def talk() -> None:
    async with AsyncExitStack() as stack:
        _, pubsub, address = await start(stack, b"s" * 32, 100)
        subscription = await pubsub.subscribe(TOPIC)
        print(address, flush=True)
        print((await subscription.get()).data.decode(), flush=True)
        await pubsub.publish(TOPIC, b"from stock")
        await trio.sleep_forever()


async def hear() -> None:
    async with AsyncExitStack() as stack:
        _, pubsub, address = await start(stack, b"s" * 32, 100)
        subscription = await pubsub.subscribe(TOPIC)
        print(address, flush=True)
        while True:
            print((await subscription.get()).data.decode(), flush=True)


async def burst(count: int) -> None:
    async with AsyncExitStack() as stack:
        one, sender, _ = await start(stack, b"1" * 32, 100)
        two, receiver, address = await start(stack, b"2" * 32, 100)
        subscription = await receiver.subscribe(TOPIC)
        await sender.subscribe(TOPIC)
        await one.connect(info_from_p2p_addr(multiaddr.Multiaddr(address)))
        await sender.wait_for_subscription(two.get_id(), TOPIC)
        for i in range(count):
            await sender.publish(TOPIC, b"%d" % i)
        arrived = 0
        while True:
            with trio.move_on_after(1) as scope:
                await subscription.get()
                arrived += 1
            if scope.cancelled_caught:
                break
        print(arrived, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        trio.run(serve, int(sys.argv[2]) if len(sys.argv) > 2 else 100)
    elif sys.argv[1] == "talk":
        trio.run(talk)
    elif sys.argv[1] == "hear":
        trio.run(hear)
    else:
        trio.run(burst, int(sys.argv[2]))
