"""Names on the bus: no text changes the number of tokens of a subject, and no two things share a name."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus.subjects import JobSubject, Subjects, parse_birth, parse_job_of, token, worker_of

S = Subjects("t")
TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(text=st.text())
@example("a.b")
@example("*")
@example(">")
@example("")
@example("a b")
@example("a\r\nPUB x 0")
@example("é")
@example("a\n")
@example("1.5")
@example("org/model")
@example("x" * 65)
def test_rule_02_a_text_that_is_not_a_token_is_refused_and_never_rewritten(text: str) -> None:
    try:
        subjects = [S.job(text, text, text, text), S.job_key(text, text).entries, S.cancel(text, text), S.ping(text)]
    except ValueError as error:
        assert repr(text[:80]) in str(error)  # noqa: PT017
        return
    assert token(text) == text
    assert [subject.count(".") for subject in subjects] == [5, 4, 3, 3]
    assert not any(set("*> \r\n") & set(subject) for subject in subjects)


@given(TOKENS, TOKENS, TOKENS, TOKENS)
def test_a_job_subject_is_parsed_into_its_parts(model: str, version: str, lane: str, tenant: str) -> None:
    assert S.parse_job(S.job(model, version, lane, tenant)) == JobSubject(model, version, lane, tenant)
    assert parse_birth(S.job_key(tenant, model).birth) == (tenant, model)
    assert parse_job_of(S.cancel(tenant, model)) == (tenant, model)
    assert worker_of(S.heartbeat(model)) == model


@given(st.tuples(TOKENS, TOKENS, TOKENS), st.tuples(TOKENS, TOKENS, TOKENS))
@example(("a_b", "c", "d"), ("a", "b_c", "d"))
@example(("a-", "b", "d"), ("a", "-b", "d"))
def test_rule_02_two_consumers_never_share_a_name(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (S.consumer(*one) == S.consumer(*other)) == (one == other)


@given(st.tuples(TOKENS, TOKENS), st.tuples(TOKENS, TOKENS))
def test_rule_01_two_jobs_share_no_subject_unless_tenant_and_id_are_equal(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    mine, theirs = S.job_key(*one), S.job_key(*other)
    for kind in ("birth", "entries", "lease", "live", "listen"):
        assert (getattr(mine, kind) == getattr(theirs, kind)) == (one == other)


@pytest.mark.parametrize("root", ["", "A", "1a", "a_b", "a.b", "a" * 33, "a\n", "é", "a*"])
def test_a_root_that_could_collide_with_another_in_capitals_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match="root"):
        Subjects(root)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True), st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True))
def test_two_roots_never_share_a_stream(one: str, other: str) -> None:
    assert (Subjects(one).jobs_stream == Subjects(other).jobs_stream) == (one == other)


@pytest.mark.parametrize(
    "subject", ["", "t.job", "t.job.a.b.c", "t.job.a.b.c.d.e", "u.job.a.b.c.d", "t.reply.a.b.c.d", "t.job.a.b.c.d!"]
)
def test_a_subject_that_is_not_a_job_subject_of_this_root_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match=r"must be|not a job subject"):
        S.parse_job(subject)
