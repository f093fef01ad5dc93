"""Private attributes of aiohttp that gateway/http uses: a new version that lacks one fails here, by name."""

import ast
from pathlib import Path

import aiohttp
import pytest
from aiohttp import http_exceptions, web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from tests.support.private_attributes import Private, defined, missing, used

ROOT = Path(__file__).parents[4]
CONNECTION = "gateway/http/connection.py"
#: The classes of one connection, and the attributes of ours that they share.
FILES = (CONNECTION, "gateway/http/reading.py", "gateway/http/slow_clients.py", "gateway/http/refusing.py")
LARGE_READS = "gateway/http/large_reads.py"
PRIVATE = [
    Private(RequestHandler, "_request_count", f"{CONNECTION}: how many requests one read brought"),
    Private(RequestHandler, "_messages", f"{CONNECTION}: the bodies of the requests that wait"),
    Private(RequestHandler, "_current_request", f"{FILES[1]}, {FILES[2]}: job and tenant of a slow client"),
    Private(StreamReader, "_buffer", f"{FILES[1]}: the memory of a refused body"),
    Private(RequestHandler, "_reading_paused", f"{LARGE_READS}: whether aiohttp holds a body back"),
    Private(RequestHandler, "_buffer_paused", f"{LARGE_READS}: whether aiohttp holds a body back"),
    Private(RequestHandler, "_loop", f"{CONNECTION}: its clock and timers"),
]
#: Not underscored, but of no public document: aiohttp may change them with a minor version as well.
INTERNAL = [
    Private(RequestHandler, name, f"{CONNECTION}, {FILES[2]}: overridden")
    for name in (
        *("connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing"),
        *("finish_response", "handle_error", "set_parser", "transport"),
    )
]
HINT = "adapt gateway/http, or stay on the version that pyproject.toml pins"


def test_aiohttp_has_every_attribute_that_we_use() -> None:
    assert missing("aiohttp", aiohttp.__version__, PRIVATE + INTERNAL, {}) == [], HINT


def test_the_list_is_complete() -> None:
    listed = {private.name for private in PRIVATE}
    ours = {name for file in FILES for name in _shared(ROOT / file)}
    assert {name for file in (*FILES, LARGE_READS) for name in used(ROOT / file)} - ours == listed


def _shared(file: Path) -> set[str]:
    """The private names that a file of ours declares for its subclasses."""
    tree = ast.parse(file.read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    declared = {part.target.id for node in classes for part in node.body if isinstance(part, ast.AnnAssign)}
    return declared | {name for node in classes for name in defined(node)}


def test_the_errors_of_its_parser_are_those_that_we_distinguish() -> None:
    assert issubclass(http_exceptions.LineTooLong, http_exceptions.HttpProcessingError), HINT
    assert http_exceptions.LineTooLong(b"x", 8190).args[1] == 8190, HINT
    for kind in ("BadHttpMethod", "BadStatusLine", "InvalidURLError", "InvalidHeader"):
        assert issubclass(getattr(http_exceptions, kind), http_exceptions.HttpProcessingError), HINT


@pytest.mark.parametrize("name", ["is_eof", "set_exception", "exception", "feed_eof", "total_raw_bytes"])
def test_a_body_can_be_failed_and_ended(name: str) -> None:
    assert hasattr(StreamReader, name), f"aiohttp {aiohttp.__version__} changed: StreamReader.{name}; {HINT}"
    assert EMPTY_PAYLOAD.is_eof()
    assert issubclass(web.RequestPayloadError, Exception)
