"""Webhook signatures, and the check of the address at the connection."""

import socket

import pytest

from bus.webhook import Webhook
from gateway.webhooks.sender import NotDelivered, Sender, check, public_socket, signature_headers


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of https://www.standardwebhooks.com, which its libraries are tested with."""
    webhook = Webhook(url="https://example.org", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signature_headers(webhook, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_without_a_secret_there_is_no_signature() -> None:
    assert "webhook-signature" not in signature_headers(Webhook(url="https://example.org"), "evt_1", 1, b"{}")


async def test_the_address_is_checked_when_the_connection_is_made() -> None:
    """Whatever the host resolves to: `localhost` passes as a name, and is loopback."""
    webhook = Webhook(url="http://localhost:9/")
    check(webhook, allow_private=False)
    async with Sender(allow_private=False) as sender:
        with pytest.raises(NotDelivered, match="no public address"):
            await sender.post(webhook, {}, b"{}", "tenant-a")


async def test_an_address_that_is_not_public_is_refused_before_each_try() -> None:
    """A webhook that came with a job over the bus was checked by no gateway."""
    async with Sender(allow_private=False) as sender:
        with pytest.raises(NotDelivered) as caught:
            await sender.post(Webhook(url="http://192.0.0.192/"), {}, b"{}", "tenant-a")
    assert caught.value.is_final


@pytest.mark.parametrize(("address", "is_allowed"), [("8.8.8.8", True), ("127.0.0.1", False), ("192.0.0.192", False)])
def test_no_socket_is_made_for_an_address_that_is_not_public(address: str, is_allowed: bool) -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80))
    if is_allowed:
        public_socket(info).close()
        return
    with pytest.raises(OSError, match=f"{address}, which is no public address"):
        public_socket(info)
