"""Errors as problems, and the APIs that write them."""

import msgspec
from aiohttp import web

from bus import errors
from bus.errors import JobError
from gateway.dialects.registry import dialects
from gateway.http.dialect import dialect_of
from gateway.http.problems import STATUS, GatewayError, Problem, describe


def test_every_error_that_a_job_can_have_has_a_status() -> None:
    known = {*JobError.by_code.values(), errors.Unreachable, errors.Malformed}
    assert known - STATUS.keys() == set()
    assert all(error.status >= 400 and error.code for error in GatewayError.__subclasses__())


def test_the_text_of_an_unexpected_error_is_not_sent_to_clients() -> None:
    problem = describe(RuntimeError("password"))
    assert (problem.status, problem.code) == (500, "internal")
    assert "password" not in problem.detail


def test_a_retryable_error_says_when_to_retry() -> None:
    for error in (
        errors.NoWorker("x"),
        errors.StorageFull("x"),
        errors.Unreachable("x"),
        errors.OutOfDeviceMemory("x"),
    ):
        problem = describe(error)
        assert problem.retryable
        assert int(problem.headers["Retry-After"]) > 0


def test_the_api_that_a_path_belongs_to_writes_its_errors() -> None:
    known = dialects()
    assert any("/v1/audio/" in dialect.prefixes for dialect in known)
    problem = Problem(status=422, code="invalid", detail="d", path="input")
    foreign, ours = (dialect_of(path, known).refuse(problem) for path in ("/v1/audio/speech", "/v1/jobs"))
    assert isinstance(foreign.body, bytes)
    assert isinstance(ours.body, bytes)
    assert msgspec.json.decode(foreign.body) == {
        "error": {"message": "d", "type": "invalid_request_error", "param": "input", "code": "invalid"}
    }
    assert (foreign.status, ours.status, ours.content_type) == (400, 422, "application/problem+json")
    assert isinstance(ours, web.Response)
