"""What retention knows of the logs: bytes by tenant, the next one to go, and how often a log is read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.jobs.ended_logs import EndedLog, KnownLog, LogIndex

NOW_S = 1_000_000.0
TENANTS = ("a", "b", "c")


def known(seq: int, tenant: str = "a", job: str = "", age_s: float = 100.0) -> KnownLog:
    return KnownLog(seq, tenant, job or f"j{seq}", "tone", NOW_S - age_s)


def ended(log: KnownLog, num_bytes: int = 1000, end_seq: int = 0, ago_s: float = 60.0) -> EndedLog:
    return EndedLog(end_seq or log.birth_seq, NOW_S - ago_s, num_bytes, log)


def index_of(*logs: EndedLog) -> LogIndex:
    index = LogIndex()
    for each in sorted(logs, key=lambda each: each.log.birth_seq):
        index.born(each.log)
        index.ended(each)
    return index


def purge(index: LogIndex, rest_s: float = 30.0) -> EndedLog | None:
    gone = index.first_to_go(NOW_S, rest_s)
    if gone is not None:
        index.forget(gone.log.tenant, gone.log.job)
    return gone


def test_the_tenant_with_the_most_bytes_pays_with_the_log_that_ended_first() -> None:
    index = index_of(
        ended(known(1, "a"), 3000),
        ended(known(2, "b"), 2500, end_seq=99),
        ended(known(3, "b"), 2500, end_seq=50),
        ended(known(4, "b"), 10, end_seq=98),
    )
    gone = [purge(index) for _ in range(4)]
    assert [each and each.log.birth_seq for each in gone] == [3, 1, 4, 2]
    assert purge(index) is None
    assert index.bytes_of == {}


def test_a_log_that_has_not_rested_goes_not_and_no_other_tenants_in_its_place() -> None:
    index = index_of(ended(known(1, "a"), 100), ended(known(2, "b"), 1000, ago_s=5.0))
    assert index.first_to_go(NOW_S, 30.0) is None
    gone = index.first_to_go(NOW_S, 5.0)
    assert gone is not None
    assert gone.log.tenant == "b"


def test_an_end_in_the_servers_future_has_rested() -> None:
    index = index_of(ended(known(1), ago_s=-86_400.0))
    assert index.first_to_go(NOW_S, 30.0) is not None


def test_a_log_that_is_born_again_replaces_the_one_that_was_purged() -> None:
    index = index_of(ended(known(1, job="x"), 1000))
    index.due(NOW_S)
    index.born(known(7, job="x"))
    assert index.bytes_of == {}
    assert index.first_to_go(NOW_S, 0.0) is None
    assert [log.birth_seq for log in index.due(NOW_S)] == [7]
    assert index.next_seq == 8


@pytest.mark.parametrize(
    ("age_s", "most_s", "again_s"),
    [(0.0, 10.0, 1.0), (20.0, 10.0, 5.0), (3600.0, 10.0, 10.0), (400.0, None, 100.0), (86_400.0, None, 300.0)],
)
def test_a_log_without_an_end_is_read_again_the_later_the_older_it_is(
    age_s: float, most_s: float | None, again_s: float
) -> None:
    index, log = LogIndex(), known(1, age_s=age_s)
    index.born(log)
    assert index.due(NOW_S) == [log]
    assert index.due(NOW_S) == []
    index.not_ended(log, NOW_S, most_s)
    assert index.due(NOW_S + again_s - 0.01) == []
    assert index.due(NOW_S + again_s) == [log]


def test_a_pass_reads_every_new_log_and_a_bounded_number_again() -> None:
    index = LogIndex()
    for seq in range(1, 5001):
        index.born(known(seq))
    new = index.due(NOW_S)
    assert len(new) == 5000
    for log in new:
        index.not_ended(log, NOW_S)
    assert len(index.due(NOW_S + 1000)) == 2048


def test_what_the_server_has_removed_by_age_is_forgotten() -> None:
    logs = [known(seq, age_s=200.0 - seq) for seq in range(1, 11)]
    index = LogIndex()
    for log in logs:
        index.born(log)
    for log in logs[::2]:
        index.ended(ended(log))
    assert [each.log.birth_seq for each in index.born_before(NOW_S - 195.0)] == [1, 3]
    index.forget_before(NOW_S - 195.0)
    assert index.bytes_of == {"a": 3000}
    assert [log.birth_seq for log in index.due(NOW_S)] == [5, 6, 7, 8, 9, 10]


@given(st.data())
def test_bytes_of_each_tenant_are_those_of_its_ended_logs_and_the_largest_goes_first(data: st.DataObject) -> None:
    index, truth = LogIndex(), {}
    for seq in range(1, data.draw(st.integers(1, 40)) + 1):
        log = known(seq, data.draw(st.sampled_from(TENANTS)), data.draw(st.sampled_from(["x", "y", "z"])))
        truth.pop((log.tenant, log.job), None)
        index.born(log)
        if data.draw(st.booleans()):
            truth[log.tenant, log.job] = ended(log, data.draw(st.integers(1, 10_000)), end_seq=1000 - seq)
            index.ended(truth[log.tenant, log.job])
        if data.draw(st.integers(0, 4)) == 0 and (gone := purge(index)) is not None:
            del truth[gone.log.tenant, gone.log.job]
    while True:
        sums = {tenant: sum(e.num_bytes for (t, _), e in truth.items() if t == tenant) for tenant in TENANTS}
        assert index.bytes_of == {tenant: size for tenant, size in sums.items() if size}
        gone = purge(index)
        if gone is None:
            break
        assert sums[gone.log.tenant] == max(sums.values())
        assert gone == min(e for (t, _), e in truth.items() if t == gone.log.tenant)
        del truth[gone.log.tenant, gone.log.job]
    assert truth == {}
