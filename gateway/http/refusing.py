"""Refusals by a connection itself: of requests that aiohttp could not read, or could not answer.

A request that could not be read reaches no handler. Its path, and so its API, is not known: the response has the native
API's format. It names the limit and never the value, which may be a key.
"""

import uuid
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bus.telemetry.logging import logger
from gateway.http.headers import REQUEST_ID
from gateway.http.problems import Problem
from gateway.http.reading import ReadingGuard
from gateway.http.unreadable import describe_unreadable, late_head

log = logger(__name__)

#: aiohttp's method of a request that could not be read.
_NO_METHOD: Final = "UNKNOWN"


class RefusingConnection(ReadingGuard):
    """A connection whose errors become responses in the format of the API, as those of handlers do."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to a request that could not be read, or not answered; it closes the connection.

        Raises ConnectionError if a response has begun: it can only be cut.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        problem = late_head(self._shared.times.head_s) if self._head_is_late else describe_unreadable(exc, request)
        response = self.refuse(request, problem, exc)
        response.force_close()
        return response

    def refuse(self, request: web.BaseRequest, problem: Problem, error: BaseException | None) -> web.Response:
        """The response with `problem` in the format of the request's API, logged; `error`: its cause."""
        quoted = uuid.uuid4().hex
        path = "" if request.method == _NO_METHOD else request.path[:200]
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("http.failed", method=request.method, path=path, request=quoted, exc_info=error)
        else:
            log.info("http.refused", status=problem.status, code=problem.code, path=path, request=quoted)
        response = self._shared.refuse(request.path, problem)
        response.headers[REQUEST_ID] = quoted
        return response
