"""When a node asks for what it lacks, and when it gives up."""

from network import Network

from orrange_p2p.core import gaps
from orrange_p2p.core.gaps import MAX_TRIES, PATIENCE_MS, Gaps
from orrange_p2p.core.ticks import Tick


def lagging() -> Network:
    """Four nodes, of which the last was cut off for some rounds.

    Long enough that the others get on even if they wait out its timeout as a leader.
    """
    network = Network(21, max_delay_ms=40)
    network.run(900)
    network.part([0, 1, 2], [3])
    network.run(3400, write_every_ms=0)
    return network


def test_what_is_missing_is_asked_for_after_some_patience() -> None:
    network = lagging()
    ahead, behind = network.nodes[0], network.nodes[3]
    held = [fact for fact in ahead.durable.values() if isinstance(fact, Tick)]
    top = max(held, key=lambda tick: tick.round)
    behind.replica.add_tick(top)
    missing = behind.replica.wanted_ticks()
    assert missing
    waiting = Gaps()
    assert waiting.note_missing(behind.replica, 1000) == ()
    assert waiting.note_missing(behind.replica, 1000 + PATIENCE_MS - 1) == ()
    due = waiting.note_missing(behind.replica, 1000 + PATIENCE_MS)
    assert due[: len(missing)] == missing
    waiting.note_asked(behind.replica, due, 1300, peer_count=3)
    assert waiting.note_missing(behind.replica, 1301) == (), "one request at a time"
    assert waiting.note_missing(behind.replica, 1300 + PATIENCE_MS) == due


def test_a_listed_entry_that_nobody_has_is_given_up() -> None:
    network = lagging()
    ahead, behind = network.nodes[0], network.nodes[3]
    author = network.authors[0]
    network.publish(author, author.random_operations())
    network.run(4600, write_every_ms=0)
    for fact in ahead.durable.values():
        if isinstance(fact, Tick):
            behind.replica.add_tick(fact)
    waiting, now_ms, asked = Gaps(), 0, 0
    while behind.replica.wanted_entries(10) and asked < 50:
        due = waiting.note_missing(behind.replica, now_ms)
        if due:
            waiting.note_asked(behind.replica, due, now_ms, peer_count=3)
            asked += 1
        now_ms += PATIENCE_MS
    assert asked >= MAX_TRIES
    blocking = {entry.digest for entry in behind.replica.blocking()}
    assert set(behind.replica.wanted_entries(10)) <= blocking


def test_a_node_is_behind_when_an_honest_witness_must_be_ahead() -> None:
    network = lagging()
    replica = network.nodes[3].replica
    witnesses = [node.key.address for node in network.nodes]
    further = (0, replica.clock.highest_quorum_round + gaps.LAG_ROUNDS + 1)
    assert not gaps.is_behind(replica, {witnesses[0]: further})
    assert gaps.is_behind(replica, {witnesses[0]: further, witnesses[1]: further})
    assert gaps.is_behind(replica, {witnesses[0]: (1, 0), witnesses[1]: (1, 0)})
