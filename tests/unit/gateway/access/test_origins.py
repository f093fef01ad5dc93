"""Web pages: which may read responses, and which may send requests where no key is needed."""

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from bus.errors import Forbidden
from gateway.access.origins import Origins

LISTED = "https://app.example.org"
CROSS = "https://evil.example"


def request_with(method: str = "POST", host: str = "127.0.0.1:8080", **headers: str) -> web.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request(method, "/v1/jobs", {"Host": host} | named)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": LISTED},
        {"Origin": "http://127.0.0.1:8080"},
        {"Origin": "HTTP://127.0.0.1:8080"},
        {"Origin": "https://antiphon.example", "host": "antiphon.example"},
        {"Origin": "https://antiphon.example", "X_Forwarded_Host": "antiphon.example"},
        {"Origin": "https://antiphon.example", "Sec_Fetch_Site": "same-origin"},
    ],
)
def test_programs_listed_pages_and_our_own_may_change_things_without_a_key(headers: dict[str, str]) -> None:
    for method in ("POST", "PUT", "DELETE", "GET"):
        Origins([LISTED]).check_page(request_with(method, **headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": CROSS},
        {"Origin": CROSS, "Sec_Fetch_Site": "cross-site"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:9090"},
        {"Origin": "http://localhost:8080"},
        {"Origin": f"{LISTED}.evil.example"},
        {"Origin": f"{LISTED}:8443"},
        {"Origin": "http://app.example.org"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET upgrade"])
def test_a_page_of_another_origin_may_change_nothing_without_a_key(headers: dict[str, str], method: str) -> None:
    upgrade = {"Upgrade": "websocket"} if method.endswith("upgrade") else {}
    with pytest.raises(Forbidden, match="--cors-origins"):
        Origins([LISTED]).check_page(request_with(method.partition(" ")[0], **headers, **upgrade))


def test_a_page_of_another_origin_may_send_a_get() -> None:
    """Its browser hides the response from it."""
    Origins([]).check_page(request_with("GET", Origin=CROSS))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8080",
        "127.0.0.1",
        "localhost:8080",
        "a.localhost",
        "[::1]:8080",
        "box:8080",
        "10.1.2.3",
        "127.0.0.1.",
        "",
    ],
)
def test_a_gateway_for_this_machine_only_responds_to_its_own_names(host: str) -> None:
    Origins([]).check_host(request_with(host=host))


@pytest.mark.parametrize("host", ["evil.example:8080", "evil.example", "127.0.0.1.evil.example", "a.b."])
def test_a_gateway_for_this_machine_only_refuses_names_that_a_page_could_resolve_to_it(host: str) -> None:
    with pytest.raises(Forbidden, match="--anonymous"):
        Origins([]).check_host(request_with(host=host))
    Origins([f"http://{host.rstrip('.')}"]).check_host(request_with(host=host))


def test_names_that_are_allowed_are_those_of_this_gateway_too() -> None:
    origins = Origins([], ["host.docker.internal", "Box.Local"])
    origins.check_host(request_with(host="host.docker.internal:8080"))
    origins.check_host(request_with(host="box.local"))
    with pytest.raises(Forbidden, match="--allowed-hosts"):
        origins.check_host(request_with(host="evil.host.docker.internal"))


def preflight(allowed: list[str], **headers: str) -> web.Response | None:
    return Origins(allowed).preflight(request_with("OPTIONS", **headers))


def test_a_preflight_lists_the_headers_that_a_listed_page_may_send() -> None:
    requested = {"Access_Control_Request_Method": "PUT", "Access_Control_Request_Headers": "authorization,content-type"}
    answer = preflight([LISTED], Origin=LISTED, **requested)
    assert answer is not None
    assert answer.status == 204
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    with pytest.raises(Forbidden):
        preflight([LISTED], Origin=CROSS, **requested)
    with pytest.raises(Forbidden):
        preflight([], Origin=LISTED, **requested)


def test_any_other_options_is_no_preflight() -> None:
    assert preflight([LISTED]) is None
    assert preflight([LISTED], Origin=LISTED) is None
    assert Origins([LISTED]).preflight(request_with("POST", Origin=LISTED, Access_Control_Request_Method="PUT")) is None


@pytest.mark.parametrize(
    ("allowed", "origin", "readable_by"),
    [
        ([LISTED], LISTED, LISTED),
        ([LISTED.upper() + "/"], LISTED, LISTED),
        ([LISTED], CROSS, None),
        ([LISTED], None, None),
        (["*"], CROSS, CROSS),
    ],
)
async def test_a_response_says_which_page_may_read_it(
    allowed: list[str], origin: str | None, readable_by: str | None
) -> None:
    response = web.Response()
    response.headers["Vary"] = "Accept"
    headers: dict[str, Any] = {} if origin is None else {"Origin": origin}
    await Origins(allowed).mark(request_with(**headers), response)
    assert response.headers.get("Access-Control-Allow-Origin") == readable_by
    assert response.headers.getall("Vary") == ["Accept", "Origin"]
    assert "Access-Control-Allow-Credentials" not in response.headers
