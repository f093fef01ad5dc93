"""The table of counted jobs: which jobs count, when each is checked, and the reports between gateways."""

from gateway.limits.counted_jobs import CountedJob, CountedJobs, account_of
from gateway.limits.gossip import AcceptedJob, EndedJob

ME, OTHER = "me", "other"
ACCOUNT = account_of("k1", "acme")


def mine(job: str, since_s: float = 0.0, account: str = ACCOUNT) -> CountedJob:
    return CountedJob(("acme", job), account, ME, since_s, since_s + 1.0, is_charged=True)


def changes(table: CountedJobs) -> tuple[list[str], list[str]]:
    began, ended = table.take_changes(full=False)
    return [each.job for each in began], [each.job for each in ended]


def test_a_job_counts_once_for_its_account_until_it_is_removed() -> None:
    table = CountedJobs(ME)
    assert table.add(mine("a"))
    assert not table.add(mine("a"))
    table.add(mine("b"))
    table.add(mine("c", account=account_of("", "acme")))
    assert (table.count(ACCOUNT), table.count("tenant-acme"), len(table.by_name)) == (2, 1, 3)
    assert table.remove(("acme", "a")) is not None
    assert table.remove(("acme", "a")) is None
    assert (table.count(ACCOUNT), len(table.by_name)) == (1, 2)


def test_a_job_accepted_here_is_reported_again_when_it_is_queued_and_when_it_ends() -> None:
    table = CountedJobs(ME)
    job = mine("a")
    table.add(job)
    assert changes(table) == (["a"], [])
    assert changes(table) == ([], [])
    table.set_queued(job, 17)
    began, _ = table.take_changes(full=False)
    assert began == [AcceptedJob(ACCOUNT, "acme", "a", 17, True)]
    table.remove(("acme", "a"))
    assert changes(table) == ([], ["a"])


def test_a_job_that_ended_before_it_was_reported_is_not_reported_as_accepted() -> None:
    table = CountedJobs(ME)
    table.add(mine("a"))
    table.remove(("acme", "a"))
    assert changes(table) == ([], ["a"])


def test_the_full_state_is_what_was_accepted_here_and_nothing_else() -> None:
    table = CountedJobs(ME)
    table.add(mine("a"))
    changes(table)
    table.merge(OTHER, [AcceptedJob(ACCOUNT, "acme", "b", 5, False)], [], 0.0)
    began, _ = table.take_changes(full=True)
    assert [each.job for each in began] == ["a"]


def test_another_gateways_jobs_count_here_until_it_reports_their_end() -> None:
    table = CountedJobs(ME)
    table.merge(OTHER, [AcceptedJob(ACCOUNT, "acme", "b", 0, True)], [], 0.0)
    table.merge(OTHER, [AcceptedJob(ACCOUNT, "acme", "b", 5, True)], [], 0.1)
    found = table.by_name.get(("acme", "b"))
    assert found is not None
    assert (found.owner, found.queue_seq, found.is_charged, table.count(ACCOUNT)) == (OTHER, 5, True, 1)
    table.merge(OTHER, [], [EndedJob("acme", "b")], 0.2)
    assert table.count(ACCOUNT) == 0
    assert changes(table) == ([], []), "reports of others are not passed on"


def test_an_end_reported_by_another_gateway_makes_this_one_check_its_own_job() -> None:
    table = CountedJobs(ME)
    table.add(mine("a"))
    table.merge(OTHER, [AcceptedJob(ACCOUNT, "acme", "a", 5, True)], [EndedJob("acme", "a")], 0.3)
    found = table.by_name.get(("acme", "a"))
    assert found is not None
    assert (found.owner, found.due_s) == (ME, 0.3)


def test_jobs_of_a_gateway_that_left_are_checked_at_once() -> None:
    table = CountedJobs(ME)
    table.merge(OTHER, [AcceptedJob(ACCOUNT, "acme", "b", 5, True)], [], 0.0)
    table.merge("third", [AcceptedJob(ACCOUNT, "acme", "c", 6, True)], [], 0.0)
    assert table.due(1.0, 10) == []
    table.orphan(OTHER, 1.0)
    assert [job.name[1] for job in table.due(1.0, 10)] == ["b"]


def test_the_longer_a_job_runs_the_less_often_it_is_checked() -> None:
    table, job = CountedJobs(ME), mine("a")
    table.add(job)
    pauses = []
    for now_s in (1.0, 6.0, 300.0):
        table.postpone(job, now_s)
        pauses.append(job.due_s - now_s)
    assert pauses == [1.0, 3.0, 10.0]


def test_a_refresh_checks_first_the_jobs_that_were_not_checked_for_longest() -> None:
    table = CountedJobs(ME)
    for name in "abc":
        table.add(mine(name))
    for name, checked_s in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        job = table.by_name.get(("acme", name))
        assert job is not None
        table.postpone(job, checked_s)
    assert [job.name[1] for job in table.least_recently_checked(ACCOUNT, 2)] == ["b", "c"]
