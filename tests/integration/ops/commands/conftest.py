"""A scripted gateway for the commands that use HTTP."""

from collections.abc import Iterator

import pytest

from tests.support.fake_gateway import FakeGateway, served


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def url(gateway: FakeGateway) -> Iterator[str]:
    with served(gateway) as url:
        yield url
