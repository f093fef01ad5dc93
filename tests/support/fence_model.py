"""The lease and the log as a machine small enough to walk through every interleaving (protocol rule 27).

Actors do what `bus.jobs.log`, `bus.jobs.claim` and `bus.fleet.takeover` do, one request to the server per step. Between
any two steps any other actor may run, die for good, or (a zombie) sleep without a limit. An answer may be lost after
the server has acted; then the request is repeated.

    first    the job's first delivery           later    any other delivery of it
    surplus  a second message of the same id    ender    cancels or expires the job
    reaper   takes a dead worker's lease away   waiting  as first, and may write its lease again

`Without` leaves out one rule each: a model that finds nothing wrong without a rule does not test that rule.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

#: A finished recording.
BLOCKS = 2
ENDS = ("done", "cancelled", "expired")


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


START = {
    "first": Actor("first", "take"),
    "waiting": Actor("first", "take", may_renew=True),
    "later": Actor("later", "read"),
    "surplus": Actor("surplus", "take"),
    "cancel": Actor("ender", "read", why="cancelled"),
    "expire": Actor("ender", "read", why="expired"),
    "reaper": Actor("reaper", "read", why="interrupted"),
}


def is_ended(state: State) -> bool:
    return bool(state.log) and state.log[-1] in ENDS


def wrong(state: State) -> str:
    """A violation of the invariants, or ''."""
    blocks = [entry for entry in state.log if entry not in ENDS]
    ends = [entry for entry in state.log if entry in ENDS]
    if blocks != [str(k) for k in range(len(blocks))]:
        return "blocks out of order"
    if len(ends) > 1 or (ends and state.log[-1] not in ENDS):
        return "something after the end"
    if ends == ["done"] and len(blocks) != BLOCKS:
        return "done too early"
    if not state.is_queued and not ends:
        return "job lost"
    return ""


class Model:
    def __init__(self, without: Without = Without.NOTHING) -> None:
        self.without = without

    def steps(self, state: State, i: int, *, alone: bool = False) -> Iterator[State]:
        """What may follow if actor `i` goes on. `alone`: nothing is lost and no process dies."""
        actor = state.actors[i]
        if actor.step in {"out", "dead"}:
            return
        yield from getattr(self, f"_{actor.step}")(state, i, actor, alone)
        if not alone:
            yield _is(state, i, actor._replace(step="dead"))

    # Requests

    def _read(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """The lease, by everybody but a first delivery."""
        if actor.kind == "reaper":
            dead = state.why == "running" and state.actors[state.owner].step == "dead"
            yield _is(state, i, actor._replace(step="take" if dead else "out", lease=state.lease))
        elif state.why in ENDS and self.without is not Without.ANNOUNCEMENT:
            yield _is(state, i, actor._replace(step="look", why=state.why, lease=state.lease))
        elif actor.kind == "ender" and self.without is Without.LEASE_TO_END:
            yield _is(state, i, actor._replace(step="look"))
        elif actor.kind != "ender" and self.without is Without.LEASE_BEFORE_TAIL:
            yield _is(state, i, self._seen(state, actor)._replace(step="take", lease=state.lease))
        else:
            yield _is(state, i, actor._replace(step="take", lease=state.lease))

    def _take(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        compares = self.without is not Without.COMPARE_ON_TAKE
        if compares and state.lease != actor.lease:
            # Its own, if the answer to the first try was lost.
            is_mine = actor.is_lost and state.owner == i
            if self.without is Without.OWN_ID_ON_TAKE:
                is_mine = actor.is_lost
            yield self._taken(state, i, actor) if is_mine else self._not_taken(state, i, actor)
            return
        seq = state.seq + 1
        after = state._replace(lease=seq, seq=seq, why=actor.why, owner=i)
        yield self._taken(after, i, actor)
        if not alone and actor.may_lose:
            yield _is(after, i, _loser(actor))

    def _taken(self, state: State, i: int, actor: Actor) -> State:
        mine = actor._replace(lease=state.lease, is_lost=False)
        if actor.kind == "surplus" and actor.why == "running":
            return _is(state, i, mine._replace(why="handed_back"))
        if actor.kind == "reaper" or actor.why == "handed_back":
            return _is(state, i, mine._replace(step="out"))
        if actor.kind == "ender":
            return _is(state, i, mine._replace(step="look"))
        if actor.kind == "first" or self.without is Without.LEASE_BEFORE_TAIL:
            return _is(state, i, mine._replace(step="write"))
        return _is(state, i, mine._replace(step="tail"))

    def _not_taken(self, state: State, i: int, actor: Actor) -> State:
        if actor.kind in {"surplus", "reaper"} or actor.why == "handed_back":
            return _is(state, i, actor._replace(step="out"))
        kind = "later" if actor.kind == "first" else actor.kind
        return _is(state, i, actor._replace(kind=kind, step="read", is_lost=False))

    def _tail(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """A worker reads where the log stands, after taking the lease."""
        if is_ended(state):
            yield _is(state, i, actor._replace(step="ack"))
        else:
            yield _is(state, i, self._seen(state, actor)._replace(step="write"))

    def _write(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """A worker appends the next block, or the end; or hands the job back."""
        is_last = actor.block == BLOCKS
        if self.without is Without.ACK_LAST and is_last and state.is_queued:
            yield _is(state._replace(is_queued=False), i, actor)
            return
        done = actor._replace(is_lost=False, step="ack" if is_last else "write", block=actor.block + (not is_last))
        message_id = (actor.lease, actor.block)
        if self.without is not Without.FENCE and state.lease != actor.lease:
            yield _is(state, i, actor._replace(step="out"))
        elif message_id in state.ids:
            yield _is(state._replace(ids=state.ids - {message_id}), i, done)
        else:
            entry = "done" if is_last else str(actor.block)
            yield _is(_appended(state, entry), i, done)
            if not alone and actor.may_lose:
                known = state.ids if self.without is Without.MESSAGE_ID else state.ids | {message_id}
                yield _is(_appended(state, entry)._replace(ids=known), i, _loser(actor))
        if not alone and not actor.is_lost:
            yield _is(state, i, actor._replace(step="take", why="handed_back"))
        if not alone and not actor.is_lost and actor.may_renew:
            yield _is(state, i, actor._replace(step="renew", may_renew=False))

    def _renew(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """A worker writes its lease again, to show that its job waits: a take of its own lease."""
        if state.lease != actor.lease:
            step = "write" if actor.is_lost and state.owner == i else "out"
            yield _is(state, i, actor._replace(step=step, lease=state.lease, is_lost=False))
            return
        seq = state.seq + 1
        after = state._replace(lease=seq, seq=seq, why="running", owner=i)
        yield _is(after, i, actor._replace(step="write", lease=seq, is_lost=False))
        if not alone and actor.may_lose:
            yield _is(after, i, _loser(actor))

    def _look(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """A gateway that ends the job, or finds its end announced, looks for one that stands."""
        if is_ended(state) and self.without is not Without.TAIL_TO_END:
            yield _is(state, i, actor._replace(step="ack"))
        else:
            yield _is(state, i, actor._replace(step="finish", tail=state.tail))

    def _finish(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        # Without the comparison: fenced by the lease, the id of another finisher's entry forgotten after some minutes.
        is_fenced = self.without is Without.COMPARE_ON_END
        if (state.lease != actor.lease) if is_fenced else (state.tail != actor.tail):
            yield _is(state, i, actor._replace(step="read", is_lost=False))
            return
        yield _is(_appended(state, actor.why), i, actor._replace(step="ack"))
        if not alone and actor.may_lose and self.without is not Without.COMPARE_ON_END:
            yield _is(_appended(state, actor.why), i, _loser(actor))

    def _ack(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        yield _is(state._replace(is_queued=False), i, actor._replace(step="out"))

    @staticmethod
    def _seen(state: State, actor: Actor) -> Actor:
        return actor._replace(block=sum(entry not in ENDS for entry in state.log), tail=state.tail)

    # The walk

    def explore(self, kinds: tuple[str, ...], *, loses_answers: bool = True) -> tuple[int, str, State]:
        """(states seen, the first thing found wrong or '', where)."""
        state = State(actors=tuple(START[kind]._replace(may_lose=loses_answers) for kind in kinds))
        seen, stack = {state}, [state]
        while stack:
            state = stack.pop()
            fault = wrong(state) or ("" if self.recovers(state) else "nobody can end it")
            if fault:
                return len(seen), fault, state
            for i in range(len(kinds)):
                for after in map(_canonical, self.steps(state, i)):
                    if after not in seen:
                        seen.add(after)
                        stack.append(after)
        return len(seen), "", state

    def recovers(self, state: State) -> bool:
        """Whether a worker that gets the message now, and meets no other actor, brings the job to its end."""
        state = state._replace(actors=(*state.actors, START["later"]))
        i = len(state.actors) - 1
        for _ in range(4 * BLOCKS + 16):
            if is_ended(state):
                return not wrong(state)
            after = next(self.steps(state, i, alone=True), None)
            if after is None:
                return False
            state = after
        return False


def _loser(actor: Actor) -> Actor:
    return actor._replace(is_lost=True, may_lose=False)


def _is(state: State, i: int, actor: Actor) -> State:
    if actor.step in {"out", "dead"}:
        actor = Actor(actor.kind, actor.step)
    return state._replace(actors=(*state.actors[:i], actor, *state.actors[i + 1 :]))


def _canonical(state: State) -> State:
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
    )


def _appended(state: State, entry: str) -> State:
    return state._replace(log=(*state.log, entry), tail=state.seq + 1, seq=state.seq + 1)
