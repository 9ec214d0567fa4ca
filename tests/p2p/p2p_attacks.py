"""What a hostile peer sends. Each attack is one function of an attacker's host and its victim."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.envelope import seal_record
from libp2p.peer.id import ID
from libp2p.peer.peer_record import PeerRecord
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_uvarint
from multiaddr import Multiaddr

from orrange_p2p.p2p.hardening.queues import frame_rpc
from orrange_p2p.p2p.host import RunningHost, run_host
from orrange_p2p.p2p.limits import Counters, Limits

MESHSUB = TProtocol("/meshsub/1.1.0")
TOPIC = "/orrange/test/1"

Attack = Callable[[RunningHost, ID], Awaitable[None]]


@asynccontextmanager
async def attacker(address: str, secret: bytes = b"m" * 32) -> AsyncIterator[tuple[Any, ID]]:
    """A host connected to ``address``, and the id of the victim."""
    target, _, name = address.rpartition("/p2p/")
    victim = ID.from_base58(name)
    async with run_host(secret, [], Limits(), Counters()) as running:
        with trio.fail_after(10):
            await running.swarm._dial_addr_single_attempt(Multiaddr(target), victim)
        yield running, victim


async def meshsub_stream(running: RunningHost, victim: ID) -> Any:
    return await running.host.new_stream(victim, [MESHSUB])


async def say(running: RunningHost, victim: ID, *rpcs: rpc_pb2.RPC) -> Any:
    """Send RPCs on a pubsub stream of its own."""
    stream = await meshsub_stream(running, victim)
    for rpc in rpcs:
        await stream.write(frame_rpc(rpc))
    return stream


def message(origin: bytes, seqno: int, data: bytes = b"x", topic: str = TOPIC) -> Any:
    return rpc_pb2.Message(
        from_id=origin,
        seqno=seqno.to_bytes(8, "big"),
        data=data,
        topicIDs=[topic],
        signature=b"s" * 64,
    )


def signed_message(secret: bytes, seqno: int, data: bytes, topic: str = TOPIC) -> Any:
    """A message that is valid by its signature."""
    keys = create_new_key_pair(secret)
    made = rpc_pb2.Message(
        from_id=ID.from_pubkey(keys.public_key).to_bytes(),
        seqno=seqno.to_bytes(8, "big"),
        data=data,
        topicIDs=[topic],
    )
    made.signature = keys.private_key.sign(b"libp2p-pubsub:" + made.SerializeToString())
    return made


# What ends a stock host.


async def garbage_protobuf(running: RunningHost, victim: ID) -> None:
    stream = await meshsub_stream(running, victim)
    garbage = b"\xff" * 40
    await stream.write(encode_uvarint(len(garbage)) + garbage)


async def bad_key(running: RunningHost, victim: ID) -> None:
    made = message(b"\x12\x20" + b"i" * 32, 1)
    made.key = b"\x08\x63\x12\x02no"
    await say(running, victim, rpc_pb2.RPC(publish=[made]))


async def token_not_utf8(running: RunningHost, victim: ID) -> None:
    connection: Any = running.swarm.get_connections(victim)[0]
    stream = await connection.muxed_conn.open_stream()
    with suppress(Exception):
        await stream.write(b"\x13/multistream/1.0.0\n\x04\xff\xfe\xfd\n")
        await stream.read(100)
        await stream.read(100)


async def provoke_validator(running: RunningHost, victim: ID) -> None:
    """A valid message; the victim's own validator raises on it."""
    made = signed_message(b"o" * 32, time.time_ns(), b"raise")
    await say(running, victim, rpc_pb2.RPC(publish=[made]))


KILLERS: Sequence[Attack] = (garbage_protobuf, bad_key, token_not_utf8, provoke_validator)


# What costs a stock host more than it should.


async def prune_with_exchange(running: RunningHost, victim: ID, trap_port: int) -> None:
    """PRUNE that says where other peers are: at ``trap_port``."""
    keys = create_new_key_pair(b"t" * 32)
    trap = ID.from_pubkey(keys.public_key)
    record = PeerRecord(trap, [Multiaddr(f"/ip4/127.0.0.1/tcp/{trap_port}")], time.time_ns())
    info = rpc_pb2.PeerInfo(
        peerID=trap.to_bytes(),
        signedPeerRecord=seal_record(record, keys.private_key).marshal_envelope(),
    )
    prune = rpc_pb2.ControlPrune(topicID=TOPIC, peers=[info], backoff=1)
    control = rpc_pb2.ControlMessage(prune=[prune])
    await say(running, victim, rpc_pb2.RPC(control=control))


async def tiny_messages(running: RunningHost, victim: ID, rpcs: int) -> None:
    """5,000 messages in each RPC, none of them signed by whom they name."""
    origin = b"\x00\x24\x08\x01\x12\x20" + b"k" * 32
    tiny = rpc_pb2.RPC(publish=[message(origin, i, b"") for i in range(5000)])
    await say(running, victim, *[tiny] * rpcs)
