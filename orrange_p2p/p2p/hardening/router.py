"""The router: gossipsub 1.1 as the mesh needs it, with bounds on all that peers may cause."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.utils import safe_bytes_from_hex

from orrange_p2p.p2p.hardening.queues import OutboundQueue, RecentMessages, frame_rpc
from orrange_p2p.p2p.limits import Counters, Limits
from orrange_p2p.p2p.scoring import Scores

__all__ = ["HardGossipSub"]

MESHSUB = TProtocol(PROTOCOL_ID_V11)
HEARTBEAT_S = 1
BACK_OFF_S = 2
IDS_PER_CONTROL = 1000
"""Most ids in one IHAVE or IWANT that we send or look at."""
SERVED_PER_IWANT = 128
CONTROLS_PER_RPC = 64
"""GRAFT, PRUNE, IHAVE and IWANT entries of one RPC that are looked at."""


class HardGossipSub(GossipSub):
    """Gossipsub with degrees 6, 4 and 12 and a heartbeat of one second.

    What it leaves out of stock, and why:

    - *default heartbeat* (gossipsub.py:179): 120 s, so no repair of the mesh for two minutes.
    - *spam limit* (gossipsub.py:190): 10 messages a second per topic, also against ourselves.
    - *peer exchange* (gossipsub.py:1921): PRUNE with addresses makes stock dial where the
      attacker says, even with ``do_px=False``.
    - *state by foreign topics* (gossipsub.py:1917, :490): PRUNE, GRAFT and IHAVE for random
      topics are remembered for ever.
    - *back-off silences gossip* (gossipsub.py:1511): a peer in back-off is not told about
      messages either, so they are lost for it without any loss in the network.
    - *IWANT amplification* (gossipsub.py:1778): a repeated id is served as often as asked.
    - *mixed control messages* (gossipsub.py:1256): GRAFTs and PRUNEs of one peer are sent to
      the next as well.
    - *pending messages* (gossipsub.py:1079): every message is kept for each peer that is not
      subscribed, and written past its queue.
    - *scores without weights* (score.py): all are 0, so no one is ever worth less. See
      ``scoring``: whoever is below zero is in no mesh, whoever is graylisted is not heard.
    """

    def __init__(self, limits: Limits, counters: Counters) -> None:
        super().__init__(
            protocols=[MESHSUB],
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=HEARTBEAT_S,
            prune_back_off=BACK_OFF_S,
            unsubscribe_back_off=BACK_OFF_S,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        self._counters = counters
        self.recent = RecentMessages(limits.recent_bytes)
        self.scores = Scores(limits)

    # Messages.

    def forward(self, message_id: bytes, message: rpc_pb2.Message, forwarder: ID | None) -> None:
        """Queue ``message`` for the mesh; ``forwarder`` is none if it is our own.

        Our own go to every subscribed peer up to the upper degree, so that the first messages
        after a connection do not wait for the mesh to form.
        """
        topic = message.topicIDs[0]
        frame = frame_rpc(rpc_pb2.RPC(publish=[message]))
        self.recent.put(message_id, topic, frame)
        origin = ID(message.from_id)
        for peer_id in self.receivers(topic, own=forwarder is None):
            if peer_id != forwarder and peer_id != origin:
                queue = self.queue(peer_id)
                if queue is not None:
                    queue.push_frame(frame)

    def receivers(self, topic: str, *, own: bool) -> Iterable[ID]:
        """The peers a message goes to."""
        subscribed = self._subscribed(topic)
        if own and len(subscribed) <= self.degree_high:
            return subscribed
        if topic in self.mesh:
            return self.mesh[topic]
        return random.sample(sorted(subscribed, key=ID.to_bytes), self.degree)

    def queue(self, peer_id: ID) -> OutboundQueue | None:
        queue = self._pubsub.peer_queues.get(peer_id)
        return queue if isinstance(queue, OutboundQueue) else None

    async def flush_pending_messages(self, peer_id: ID) -> None:
        """Nothing is pending: what a peer missed while it joined, the application fetches."""

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Nothing: stock writes past the peer's queue and so into the middle of a frame."""

    # Control messages in.

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Act on the control part of ``rpc``. Never raises because of what it says."""
        control = rpc.control
        answer = rpc_pb2.ControlMessage()
        for graft in control.graft[:CONTROLS_PER_RPC]:
            self._on_graft(graft.topicID, sender_peer_id, answer)
        for prune in control.prune[:CONTROLS_PER_RPC]:
            self._on_prune(prune, sender_peer_id)
        wanted: dict[bytes, None] = {}
        for ihave in control.ihave[:CONTROLS_PER_RPC]:
            if ihave.topicID in self.mesh:
                for message_id in self._message_ids(ihave.messageIDs):
                    if not self._pubsub.seen_messages.has(message_id):
                        wanted[message_id] = None
        if wanted:
            iwant = rpc_pb2.ControlIWant(messageIDs=list(wanted)[:IDS_PER_CONTROL])
            answer.iwant.append(iwant)
        self._send_control(sender_peer_id, answer)
        asked: dict[bytes, None] = {}
        for iwant in control.iwant[:CONTROLS_PER_RPC]:
            asked.update(dict.fromkeys(self._message_ids(iwant.messageIDs)))
        self._on_iwant(list(asked), sender_peer_id)

    def _on_graft(self, topic: str, peer_id: ID, answer: rpc_pb2.ControlMessage) -> None:
        mesh = self.mesh.get(topic)
        if mesh is None:
            answer.prune.append(rpc_pb2.ControlPrune(topicID=topic, backoff=BACK_OFF_S))
        elif peer_id in mesh:
            pass
        elif (
            self._check_back_off(peer_id, topic)
            or len(mesh) >= self.degree_high
            or not self._is_welcome(peer_id)
        ):
            if self._check_back_off(peer_id, topic):
                self.scores.misbehaved(peer_id, trio.current_time())
            self._add_back_off(peer_id, topic, False)
            answer.prune.append(rpc_pb2.ControlPrune(topicID=topic, backoff=BACK_OFF_S))
        else:
            self._enter_mesh(peer_id, topic)

    def _on_prune(self, prune: rpc_pb2.ControlPrune, peer_id: ID) -> None:
        topic = prune.topicID
        if topic in self.mesh:
            self.mesh[topic].discard(peer_id)
            self._add_back_off(peer_id, topic, False, min(prune.backoff, 60))
        if prune.peers:
            self._counters["gossip_peer_exchange_ignored"] += 1

    def _on_iwant(self, message_ids: list[bytes], peer_id: ID) -> None:
        queue = self.queue(peer_id)
        served = 0
        for message_id in message_ids:
            frame = self.recent.get(message_id)
            if frame is None or queue is None or queue.half_full:
                continue
            if served == SERVED_PER_IWANT:
                break
            queue.push_frame(frame)
            served += 1

    @staticmethod
    def _message_ids(wire: Iterable[Any]) -> list[bytes]:
        ids = []
        for count, text in enumerate(wire):
            if count == IDS_PER_CONTROL:
                break
            message_id = safe_bytes_from_hex(text)
            if message_id is not None:
                ids.append(message_id)
        return ids

    # Control messages out.

    async def emit_control_message(self, control_msg: rpc_pb2.ControlMessage, to_peer: ID) -> None:
        self._send_control(to_peer, control_msg)

    def _send_control(self, peer_id: ID, control: rpc_pb2.ControlMessage) -> None:
        queue = self.queue(peer_id)
        if queue is not None and control.ByteSize():
            queue.push(rpc_pb2.RPC(control=control))

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        """Take a new subscriber into a mesh that is too small, now instead of next heartbeat."""
        mesh = self.mesh.get(topic)
        if (
            mesh is not None
            and len(mesh) < self.degree_low
            and peer_id not in mesh
            and self.queue(peer_id) is not None
            and not self._check_back_off(peer_id, topic)
            and self._is_welcome(peer_id)
        ):
            self._enter_mesh(peer_id, topic)
            await self.emit_graft(topic, peer_id)

    async def leave(self, topic: str) -> None:
        for peer_id in self.mesh.pop(topic, set()):
            await self.emit_prune(topic, peer_id, False, True)
        self.back_off.pop(topic, None)

    # Heartbeat.

    async def heartbeat(self) -> None:
        await trio.sleep(self.heartbeat_initial_delay)
        while True:
            self.beat()
            await trio.sleep(self.heartbeat_interval)

    def beat(self) -> None:
        """Keep every mesh between its bounds and tell some of the others what is new."""
        for topic, mesh in self.mesh.items():
            subscribed = self._subscribed(topic)
            mesh &= subscribed
            self._prune(topic, [peer for peer in mesh if not self._is_welcome(peer)])
            if len(mesh) < self.degree_low:
                able = [
                    peer
                    for peer in subscribed - mesh
                    if not self._check_back_off(peer, topic) and self._is_welcome(peer)
                ]
                for peer_id in self._some(able, self.degree - len(mesh)):
                    self._enter_mesh(peer_id, topic)
                    graft = rpc_pb2.ControlGraft(topicID=topic)
                    self._send_control(peer_id, rpc_pb2.ControlMessage(graft=[graft]))
            elif len(mesh) > self.degree_high:
                useful = sorted(mesh, key=self._score, reverse=True)[: self.degree_low]
                self._prune(topic, self._some(list(mesh - {*useful}), len(mesh) - self.degree))
            others = list(subscribed - mesh)
            message_ids = self.recent.window(topic, IDS_PER_CONTROL) if others else []
            if message_ids:
                ihave = rpc_pb2.ControlIHave(topicID=topic, messageIDs=message_ids)
                control = rpc_pb2.ControlMessage(ihave=[ihave])
                for peer_id in self._some(others, max(self.degree, len(others) // 4)):
                    self._send_control(peer_id, control)
        self.recent.shift()

    def _prune(self, topic: str, peers: Iterable[ID]) -> None:
        for peer_id in peers:
            self.mesh[topic].discard(peer_id)
            self._add_back_off(peer_id, topic, False)
            prune = rpc_pb2.ControlPrune(topicID=topic, backoff=BACK_OFF_S)
            self._send_control(peer_id, rpc_pb2.ControlMessage(prune=[prune]))

    def _score(self, peer_id: ID) -> float:
        return self.scores.of(peer_id, trio.current_time())

    def _is_welcome(self, peer_id: ID) -> bool:
        """In a mesh: there a peer decides what we hear."""
        return self._score(peer_id) >= 0

    def _enter_mesh(self, peer_id: ID, topic: str) -> None:
        self.mesh[topic].add(peer_id)
        self._notify_mesh_peer_added(peer_id, topic)

    def _subscribed(self, topic: str) -> set[ID]:
        """Subscribers we can write to."""
        queues = self._pubsub.peer_queues
        return {peer for peer in self._pubsub.peer_topics.get(topic, ()) if peer in queues}

    @staticmethod
    def _some(peers: list[ID], most: int) -> list[ID]:
        return random.sample(peers, min(most, len(peers)))

    @property
    def _pubsub(self) -> Any:
        return self.pubsub
