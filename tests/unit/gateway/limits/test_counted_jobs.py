"""The table of counted jobs: who counts what, who asks about it, what gateways tell each other."""

from gateway.limits.counted_jobs import Counted, CountedJobs, account_of
from gateway.limits.gossip import Began, Ended

ME, OTHER = "me", "other"
ACCOUNT = account_of("k1", "acme")


def mine(job: str, since_s: float = 0.0, account: str = ACCOUNT) -> Counted:
    return Counted(("acme", job), account, ME, since_s, since_s + 1.0, is_charged=True)


def told(table: CountedJobs) -> tuple[list[str], list[str]]:
    began, ended = table.news(everything=False)
    return [each.job for each in began], [each.job for each in ended]


def test_a_job_counts_once_for_its_account_until_it_is_removed() -> None:
    table = CountedJobs(ME)
    assert table.add(mine("a"))
    assert not table.add(mine("a"))
    table.add(mine("b"))
    table.add(mine("c", account=account_of("", "acme")))
    assert (table.count(ACCOUNT), table.count("tenant-acme"), len(table)) == (2, 1, 3)
    assert table.remove(("acme", "a")) is not None
    assert table.remove(("acme", "a")) is None
    assert (table.count(ACCOUNT), len(table)) == (1, 2)


def test_what_began_here_is_told_once_again_when_it_is_queued_and_its_end_too() -> None:
    table = CountedJobs(ME)
    job = mine("a")
    table.add(job)
    assert told(table) == (["a"], [])
    assert told(table) == ([], [])
    table.queued(job, 17)
    began, _ = table.news(everything=False)
    assert began == [Began(ACCOUNT, "acme", "a", 17, True)]
    table.remove(("acme", "a"))
    assert told(table) == ([], ["a"])


def test_a_job_that_ended_before_it_was_told_of_is_not_told_to_have_begun() -> None:
    table = CountedJobs(ME)
    table.add(mine("a"))
    table.remove(("acme", "a"))
    assert told(table) == ([], ["a"])


def test_a_newcomer_is_told_everything_that_was_accepted_here_and_nothing_else() -> None:
    table = CountedJobs(ME)
    table.add(mine("a"))
    told(table)
    table.hear(OTHER, [Began(ACCOUNT, "acme", "b", 5, False)], [], 0.0)
    began, _ = table.news(everything=True)
    assert [each.job for each in began] == ["a"]


def test_another_gateways_jobs_count_here_and_its_word_ends_them() -> None:
    table = CountedJobs(ME)
    table.hear(OTHER, [Began(ACCOUNT, "acme", "b", 0, True)], [], 0.0)
    table.hear(OTHER, [Began(ACCOUNT, "acme", "b", 5, True)], [], 0.1)
    found = table.get(("acme", "b"))
    assert found is not None
    assert (found.owner, found.queue_seq, found.is_charged, table.count(ACCOUNT)) == (OTHER, 5, True, 1)
    table.hear(OTHER, [], [Ended("acme", "b")], 0.2)
    assert table.count(ACCOUNT) == 0
    assert told(table) == ([], []), "news of others is not told on"


def test_a_strangers_word_ends_no_job_of_ours_but_makes_us_look() -> None:
    table = CountedJobs(ME)
    table.add(mine("a"))
    table.hear(OTHER, [Began(ACCOUNT, "acme", "a", 5, True)], [Ended("acme", "a")], 0.3)
    found = table.get(("acme", "a"))
    assert found is not None
    assert (found.owner, found.due_s) == (ME, 0.3)


def test_jobs_of_a_gateway_that_is_gone_are_asked_about_at_once() -> None:
    table = CountedJobs(ME)
    table.hear(OTHER, [Began(ACCOUNT, "acme", "b", 5, True)], [], 0.0)
    table.hear("third", [Began(ACCOUNT, "acme", "c", 6, True)], [], 0.0)
    assert table.due(1.0, 10) == []
    table.orphan(OTHER, 1.0)
    assert [job.name[1] for job in table.due(1.0, 10)] == ["b"]


def test_the_longer_a_job_runs_the_less_often_it_is_asked_about() -> None:
    table, job = CountedJobs(ME), mine("a")
    table.add(job)
    pauses = []
    for now_s in (1.0, 6.0, 300.0):
        table.runs_on(job, now_s)
        pauses.append(job.due_s - now_s)
    assert pauses == [1.0, 3.0, 10.0]


def test_whoever_wants_room_asks_first_about_what_was_not_asked_for_longest() -> None:
    table = CountedJobs(ME)
    for name in "abc":
        table.add(mine(name))
    for name, asked_s in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        job = table.get(("acme", name))
        assert job is not None
        table.runs_on(job, asked_s)
    assert [job.name[1] for job in table.longest_unasked(ACCOUNT, 2)] == ["b", "c"]
