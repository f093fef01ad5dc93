"""Parts of a body by Range, If-Range and If-None-Match."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.problems import RangeRefused
from gateway.http.ranges import is_unchanged, part


@given(size=st.integers(1, 500), first=st.integers(0, 600), last=st.integers(0, 600))
def test_a_range_is_read_as_the_rfc_defines_it(size: int, first: int, last: int) -> None:
    body = bytes(index % 251 for index in range(size))
    headers = {"Range": f"bytes={first}-{last}"}
    if last < first:
        assert part(headers, size, "e") == (part({}, size, "e")[0], False)
    elif first >= size:
        with pytest.raises(RangeRefused):
            part(headers, size, "e")
    else:
        wanted, is_part = part(headers, size, "e")
        assert is_part
        assert body[wanted.start : wanted.stop] == body[first : last + 1]


@pytest.mark.parametrize("text", ["bytes=", "bytes=-", "bytes=1-2,4-5", "items=0-1", "bytes=a-b", "bytes=5-1"])
def test_a_range_that_is_not_understood_is_ignored(text: str) -> None:
    assert part({"Range": text}, 10, "e")[0].is_whole


def test_a_suffix_of_nothing_cannot_be_satisfied() -> None:
    with pytest.raises(RangeRefused):
        part({"Range": "bytes=-0"}, 10, "e")


@pytest.mark.parametrize(
    ("text", "same"), [('"a"', True), ('W/"a", "b"', True), ("*", True), ('"b"', False), ("a", False)]
)
def test_the_tag_of_the_clients_file_is_compared(text: str, same: bool) -> None:
    assert is_unchanged({"If-None-Match": text}, '"a"') is same
