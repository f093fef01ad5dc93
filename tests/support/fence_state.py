"""The states of the fence model: the log, its lease, and the processes that work on them.

Workers of which `chains` is set make growing checkpoints, `+`: each holds only what is new in the state of the engine
since the one before, whose place it names. `*` is a snapshot: the whole state. A log's last entry names the latest of
both. A worker without `chains` is one of an older version: it neither reads nor writes the names of increments.
"""

from enum import Enum, auto
from typing import NamedTuple

#: A finished recording.
BLOCKS = 2
#: Checkpoints that the engine makes before the next block or the end, by blocks made.
CHECKPOINTS = (0, 2, 3)
ENDS = ("done", "cancelled", "expired")
CHECKPOINT_KINDS = ("+", "*")


class Without(Enum):
    """A rule left out."""

    NOTHING = auto()
    #: Taking a lease compares its sequence.
    COMPARE_ON_TAKE = auto()
    #: Appends name the lease.
    FENCE = auto()
    #: The tail is read after the lease is taken, not before.
    LEASE_BEFORE_TAIL = auto()
    #: A repeated append bears the id of the first.
    MESSAGE_ID = auto()
    #: A refused repeat of a take is ours only if our own id stands there.
    OWN_ID_ON_TAKE = auto()
    #: A gateway that ends a job takes its lease first.
    LEASE_TO_END = auto()
    #: A gateway that ends a job looks for an end that stands.
    TAIL_TO_END = auto()
    #: A lease that announces an ending is never replaced.
    ANNOUNCEMENT = auto()
    #: A finisher compares the tail: not the lease and an id that the server forgets some minutes later.
    COMPARE_ON_END = auto()
    #: The message is acknowledged only after its log has ended.
    ACK_LAST = auto()
    #: A worker that finds an increment gone starts at the snapshot, and a chain of its own.
    WHOLE_CHAIN = auto()
    #: An increment that is the log's last entry is the latest one, not the one that it names.
    LAST_ENTRY_COUNTS = auto()
    #: A snapshot begins a new chain.
    SNAPSHOT_BREAKS = auto()
    #: After an increment that was too large to be stored, none is stored before the next snapshot.
    NONE_AFTER_A_DROP = auto()


class Chain(NamedTuple):
    """Where the state of the engine is: as an entry names it, and as a worker goes on from it."""

    #: Checkpoints that the snapshot covers.
    base: int = 0
    #: Place of the latest increment since then among all of the log, from 1; 0 for none.
    head: int = 0


class Actor(NamedTuple):
    kind: str
    step: str
    #: Sequence of the lease that it holds, or that it read and means to replace.
    lease: int = 0
    #: What it believes of the log: blocks in it, sequence of its last entry.
    block: int = 0
    tail: int = 0
    #: Whether its request under way was acted upon, and the answer lost.
    is_lost: bool = False
    #: One lost answer each: two that lose every answer would take the lease from one another for ever.
    may_lose: bool = True
    may_renew: bool = False  # its lease, once
    #: What its take writes, or what it announces.
    why: str = "running"
    #: Whether it makes and reads increments; which of its checkpoints is a snapshot, and which is too large. -1: none.
    chains: bool = False
    snapshot: int = -1
    too_large: int = -1
    chain: Chain = Chain()
    #: Checkpoints in the state of its engine; place of the increment that it reads next.
    known: int = 0
    at: int = 0
    has_dropped: bool = False


class State(NamedTuple):
    log: tuple[str, ...] = ()
    tail: int = 0
    lease: int = 0
    why: str = ""
    #: Who took the lease: index of the actor, for those who ask whether it lives or is their own.
    owner: int = -1
    seq: int = 0
    #: Message ids of appends that will be repeated.
    ids: frozenset[tuple[int, int]] = frozenset()
    #: Whether JOBS has the message.
    is_queued: bool = True
    actors: tuple[Actor, ...] = ()
    #: As the last entry has it.
    chain: Chain = Chain()
    #: (number of the checkpoint, place of the one before) of every increment.
    increments: tuple[tuple[int, int], ...] = ()
    #: Places of those that are gone.
    lost: frozenset[int] = frozenset()


START = {
    "first": Actor("first", "take"),
    "waiting": Actor("first", "take", may_renew=True),
    "later": Actor("later", "read"),
    "surplus": Actor("surplus", "take"),
    "cancel": Actor("ender", "read", why="cancelled"),
    "expire": Actor("ender", "read", why="expired"),
    "reaper": Actor("reaper", "read", why="interrupted"),
    "grower": Actor("first", "take", chains=True),
    "heir": Actor("later", "read", chains=True),
    "snapper": Actor("first", "take", chains=True, snapshot=1),
    "capped": Actor("first", "take", chains=True, too_large=1),
    "loss": Actor("loss", "lose"),
}


def is_ended(state: State) -> bool:
    return bool(state.log) and state.log[-1] in ENDS


def blocks_of(state: State) -> list[str]:
    return [entry for entry in state.log if entry not in (*ENDS, *CHECKPOINT_KINDS)]


def wrong(state: State) -> str:
    """A violation of the invariants, or ''."""
    blocks = blocks_of(state)
    ends = [entry for entry in state.log if entry in ENDS]
    if blocks != [str(k) for k in range(len(blocks))]:
        return "blocks out of order"
    if len(ends) > 1 or (ends and state.log[-1] not in ENDS):
        return "something after the end"
    if ends == ["done"] and len(blocks) != BLOCKS:
        return "done too early"
    if not state.is_queued and not ends:
        return "job lost"
    numbers = chained(state)
    if numbers != list(range(state.chain.base, state.chain.base + len(numbers))):
        return "a chain with a gap"
    if state.chain.base + len(numbers) > CHECKPOINTS[len(blocks)]:
        return "a checkpoint ahead of its audio"
    return ""


def chained(state: State) -> list[int]:
    """Numbers of the increments that the last entry leads to, oldest first."""
    numbers, at = list[int](), state.chain.head
    while at:
        number, at = state.increments[at - 1]
        numbers.insert(0, number)
    return numbers


def loser(actor: Actor) -> Actor:
    return actor._replace(is_lost=True, may_lose=False)


def with_actor(state: State, i: int, actor: Actor) -> State:
    if actor.step in {"out", "dead"}:
        actor = Actor(actor.kind, actor.step)
    return state._replace(actors=(*state.actors[:i], actor, *state.actors[i + 1 :]))


def canonical(state: State) -> State:
    """Sequences are only ever compared for being equal, so states that differ in their values alone are one."""
    leases = {actor.lease for actor in state.actors} | {seq for seq, _ in state.ids}
    used = sorted({0, state.lease, state.tail, *leases, *(actor.tail for actor in state.actors)})
    rank = {seq: n for n, seq in enumerate(used)}
    return State(
        log=state.log,
        tail=rank[state.tail],
        lease=rank[state.lease],
        why=state.why,
        owner=state.owner,
        seq=len(used),
        ids=frozenset((rank[seq], number) for seq, number in state.ids),
        is_queued=state.is_queued,
        actors=tuple(actor._replace(lease=rank[actor.lease], tail=rank[actor.tail]) for actor in state.actors),
        chain=state.chain,
        increments=state.increments,
        lost=state.lost,
    )


def appended(state: State, entry: str) -> State:
    return state._replace(log=(*state.log, entry), tail=state.seq + 1, seq=state.seq + 1)
