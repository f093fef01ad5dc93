"""The lease and the log as a machine small enough to walk through every interleaving (protocol rule 27).

Actors do what `bus.jobs.log`, `bus.jobs.claim` and `bus.fleet.takeover` do, one request to the server per step. Between
any two steps any other actor may run, die for good, or (a zombie) sleep without a limit. An answer may be lost after
the server has acted; then the request is repeated.

    first    the job's first delivery           later    any other delivery of it
    surplus  a second message of the same id    ender    cancels or expires the job
    reaper   takes a dead worker's lease away   waiting  as first, and may write its lease again
    grower   as first, with growing checkpoints heir     as later, with growing checkpoints
    snapper  as grower, with a snapshot         capped   as grower, with an increment that is too large
    loss     removes an increment from the log

`Without` leaves out one rule each: a model that finds nothing wrong without a rule does not test that rule.
"""

from collections.abc import Iterator

from tests.support.fence_state import (
    BLOCKS,
    CHECKPOINT_KINDS,
    CHECKPOINTS,
    ENDS,
    START,
    Actor,
    Chain,
    State,
    Without,
    appended,
    blocks_of,
    canonical,
    is_ended,
    loser,
    with_actor,
    wrong,
)


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
            yield with_actor(state, i, actor._replace(step="dead"))

    # Requests

    def _read(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """The lease, by everybody but a first delivery."""
        if actor.kind == "reaper":
            dead = state.why == "running" and state.actors[state.owner].step == "dead"
            yield with_actor(state, i, actor._replace(step="take" if dead else "out", lease=state.lease))
        elif state.why in ENDS and self.without is not Without.ANNOUNCEMENT:
            yield with_actor(state, i, actor._replace(step="look", why=state.why, lease=state.lease))
        elif actor.kind == "ender" and self.without is Without.LEASE_TO_END:
            yield with_actor(state, i, actor._replace(step="look"))
        elif actor.kind != "ender" and self.without is Without.LEASE_BEFORE_TAIL:
            yield with_actor(state, i, self._seen(state, actor)._replace(step="take", lease=state.lease))
        else:
            yield with_actor(state, i, actor._replace(step="take", lease=state.lease))

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
            yield with_actor(after, i, loser(actor))

    def _taken(self, state: State, i: int, actor: Actor) -> State:
        mine = actor._replace(lease=state.lease, is_lost=False)
        if actor.kind == "surplus" and actor.why == "running":
            return with_actor(state, i, mine._replace(why="handed_back"))
        if actor.kind == "reaper" or actor.why == "handed_back":
            return with_actor(state, i, mine._replace(step="out"))
        if actor.kind == "ender":
            return with_actor(state, i, mine._replace(step="look"))
        if actor.kind == "first" or self.without is Without.LEASE_BEFORE_TAIL:
            return with_actor(state, i, mine._replace(step="write"))
        return with_actor(state, i, mine._replace(step="tail"))

    def _not_taken(self, state: State, i: int, actor: Actor) -> State:
        if actor.kind in {"surplus", "reaper"} or actor.why == "handed_back":
            return with_actor(state, i, actor._replace(step="out"))
        kind = "later" if actor.kind == "first" else actor.kind
        return with_actor(state, i, actor._replace(kind=kind, step="read", is_lost=False))

    def _tail(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """A worker reads where the log stands, after taking the lease."""
        if is_ended(state):
            yield with_actor(state, i, actor._replace(step="ack"))
        else:
            yield with_actor(state, i, self._seen(state, actor)._replace(step="chain" if actor.chains else "write"))

    def _chain(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """A worker reads the increments, from the latest one back."""
        if not actor.at:
            yield with_actor(state, i, actor._replace(step="write"))
        elif actor.at in state.lost:
            chain = actor.chain if self.without is Without.WHOLE_CHAIN else Chain(actor.chain.base)
            yield with_actor(state, i, actor._replace(step="write", chain=chain, known=chain.base, at=0))
        else:
            number, before = state.increments[actor.at - 1]
            yield with_actor(state, i, actor._replace(known=max(actor.known, number + 1), at=before))

    def _write(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """A worker appends the next block, or the end; or hands the job back."""
        if _is_dropped(actor, self.without):
            yield with_actor(state, i, actor._replace(known=actor.known + 1, has_dropped=True))
            return
        entry = _next_entry(actor)
        if self.without is Without.ACK_LAST and entry == "done" and state.is_queued:
            yield with_actor(state._replace(is_queued=False), i, actor)
            return
        message_id = (actor.lease, actor.block + 10 * actor.known)
        if self.without is not Without.FENCE and state.lease != actor.lease:
            yield with_actor(state, i, actor._replace(step="out"))
        elif message_id in state.ids:
            yield with_actor(state._replace(ids=state.ids - {message_id}), i, _behind(actor, entry, state.chain))
        else:
            after = self._stored(state, actor, entry)
            yield with_actor(after, i, _behind(actor, entry, after.chain))
            if not alone and actor.may_lose:
                known = state.ids if self.without is Without.MESSAGE_ID else state.ids | {message_id}
                yield with_actor(after._replace(ids=known), i, loser(actor))
        if not alone and not actor.is_lost:
            yield with_actor(state, i, actor._replace(step="take", why="handed_back"))
        if not alone and not actor.is_lost and actor.may_renew:
            yield with_actor(state, i, actor._replace(step="renew", may_renew=False))

    def _stored(self, state: State, actor: Actor, entry: str) -> State:
        """`entry` of a worker is appended, with where the state of the engine is."""
        chain, increments = actor.chain if actor.chains else Chain(actor.chain.base), state.increments
        if entry == "+":
            increments = (*increments, (actor.known, chain.head))
            chain = Chain(chain.base, len(increments))
        elif entry == "*":
            chain = Chain(actor.known + 1, chain.head if self.without is Without.SNAPSHOT_BREAKS else 0)
        return appended(state, entry)._replace(chain=chain, increments=increments)

    def _lose(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """An increment is removed; but a log without its last entry is no log."""
        for place in range(1, len(state.increments) + (state.log[-1:] != ("+",))):
            yield with_actor(state._replace(lost=state.lost | {place}), i, actor._replace(step="out"))

    def _renew(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """A worker writes its lease again, to show that its job waits: a take of its own lease."""
        if state.lease != actor.lease:
            step = "write" if actor.is_lost and state.owner == i else "out"
            yield with_actor(state, i, actor._replace(step=step, lease=state.lease, is_lost=False))
            return
        seq = state.seq + 1
        after = state._replace(lease=seq, seq=seq, why="running", owner=i)
        yield with_actor(after, i, actor._replace(step="write", lease=seq, is_lost=False))
        if not alone and actor.may_lose:
            yield with_actor(after, i, loser(actor))

    def _look(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        """A gateway that ends the job, or finds its end announced, looks for one that stands."""
        if is_ended(state) and self.without is not Without.TAIL_TO_END:
            yield with_actor(state, i, actor._replace(step="ack"))
        else:
            yield with_actor(state, i, actor._replace(step="finish", tail=state.tail))

    def _finish(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        # Without the comparison: fenced by the lease, the id of another finisher's entry forgotten after some minutes.
        is_fenced = self.without is Without.COMPARE_ON_END
        if (state.lease != actor.lease) if is_fenced else (state.tail != actor.tail):
            yield with_actor(state, i, actor._replace(step="read", is_lost=False))
            return
        yield with_actor(appended(state, actor.why), i, actor._replace(step="ack"))
        if not alone and actor.may_lose and self.without is not Without.COMPARE_ON_END:
            yield with_actor(appended(state, actor.why), i, loser(actor))

    def _ack(self, state: State, i: int, actor: Actor, alone: bool) -> Iterator[State]:
        yield with_actor(state._replace(is_queued=False), i, actor._replace(step="out"))

    def _seen(self, state: State, actor: Actor) -> Actor:
        chain = state.chain
        if self.without is Without.LAST_ENTRY_COUNTS and state.log[-1:] == ("+",):
            chain = Chain(chain.base, state.increments[chain.head - 1][1])
        seen = actor._replace(block=len(blocks_of(state)), tail=state.tail, chain=chain)
        return seen._replace(known=chain.base, at=state.chain.head)

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
                for after in map(canonical, self.steps(state, i)):
                    if after not in seen:
                        seen.add(after)
                        stack.append(after)
        return len(seen), "", state

    def recovers(self, state: State) -> bool:
        """Whether a worker that gets the message now, and meets no other actor, brings the job to its end."""
        has_chains = any(actor.chains for actor in state.actors) or state.increments
        return all(self._recovers(state, kind) for kind in (("later", "heir") if has_chains else ("later",)))

    def _recovers(self, state: State, kind: str) -> bool:
        state = state._replace(actors=(*state.actors, START[kind]))
        i = len(state.actors) - 1
        for _ in range(4 * BLOCKS + 16):
            if is_ended(state):
                return not wrong(state)
            after = next(self.steps(state, i, alone=True), None)
            if after is None:
                return False
            state = after
        return False


def _is_dropped(actor: Actor, without: Without) -> bool:
    """Whether the next checkpoint is due, and not stored."""
    if not actor.chains or actor.known == CHECKPOINTS[actor.block] or actor.known == actor.snapshot:
        return False
    return actor.known == actor.too_large or (actor.has_dropped and without is not Without.NONE_AFTER_A_DROP)


def _next_entry(actor: Actor) -> str:
    """The next entry of a worker: a checkpoint that is due, a block, or the end."""
    if actor.chains and actor.known < CHECKPOINTS[actor.block]:
        return "*" if actor.known == actor.snapshot else "+"
    return "done" if actor.block == BLOCKS else str(actor.block)


def _behind(actor: Actor, entry: str, chain: Chain) -> Actor:
    """A worker whose `entry` is stored."""
    actor = actor._replace(is_lost=False, chain=chain)
    if entry in CHECKPOINT_KINDS:
        return actor._replace(known=actor.known + 1, has_dropped=actor.has_dropped and entry == "+")
    is_last = entry == "done"
    return actor._replace(step="ack" if is_last else "write", block=actor.block + (not is_last))
