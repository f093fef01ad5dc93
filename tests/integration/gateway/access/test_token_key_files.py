"""Files of token keys that change while a gateway runs: it reloads them, and an unusable file changes nothing."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.programs import Fleet, Program

pytestmark = pytest.mark.slow

OLD, NEW = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
#: A key that was removed must be refused after this.
BOUND_S = 2.0


def key_set(*keys: rsa.RSAPrivateKey) -> str:
    keys_of_set = [
        jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid(key)} for key in keys
    ]
    return json.dumps({"keys": keys_of_set})


def kid(key: rsa.RSAPrivateKey) -> str:
    return f"kid-{key.public_key().public_numbers().n % 1_000_003}"


def signed(key: rsa.RSAPrivateKey | bytes) -> str:
    if isinstance(key, bytes):
        return jwt.encode({"tenant": "acme"}, key, "HS256")
    return jwt.encode({"tenant": "acme"}, key, "RS256", {"kid": kid(key)})


def put(path: Path, data: bytes) -> None:
    """Replace the file at once: half a file, as a write in place shows it for a moment, would be reported too."""
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    beside.replace(path)


class Client:
    """Sends requests with tokens to one gateway."""

    def __init__(self, http: aiohttp.ClientSession, gateway: Program) -> None:
        self._http = http
        self.gateway = gateway

    async def status(self, key: rsa.RSAPrivateKey | bytes) -> int:
        async with self._http.get("/v1/fleet", headers={"Authorization": f"Bearer {signed(key)}"}) as answer:
            return answer.status

    async def becomes(self, key: rsa.RSAPrivateKey | bytes, status: int) -> None:
        """Wait until a token of `key` gets `status`, also on a busy machine."""
        async with asyncio.timeout(10 * BOUND_S):
            while await self.status(key) != status:
                await asyncio.sleep(0.05)


@pytest.fixture
async def files(tmp_path: Path) -> tuple[Path, Path]:
    """The key set and the secret."""
    jwks, secret = tmp_path / "jwks.json", tmp_path / "secret"
    jwks.write_text(key_set(OLD))
    secret.write_bytes(b"o" * 32)
    return jwks, secret


@pytest.fixture
async def client(fleet: Fleet, files: tuple[Path, Path]) -> AsyncIterator[Client]:
    flags = ("--no-anonymous", "--jwks-file", str(files[0]), "--jwt-secret-file", str(files[1]))
    async with _client(fleet, *flags) as client:
        yield client


@asynccontextmanager
async def _client(fleet: Fleet, *flags: str) -> AsyncIterator[Client]:
    gateway, url = await asyncio.to_thread(fleet.gateway, *flags)
    async with aiohttp.ClientSession(url) as http:
        yield Client(http, gateway)


async def test_a_key_that_was_replaced_is_refused_and_the_new_one_is_valid(
    client: Client, files: tuple[Path, Path]
) -> None:
    assert (await client.status(OLD), await client.status(NEW)) == (200, 401)
    files[0].write_text(key_set(OLD, NEW))
    await client.becomes(NEW, 200)
    assert await client.status(OLD) == 200
    # By a new file in the place of the old one, as Kubernetes does it.
    put(files[0], key_set(NEW).encode())
    await client.becomes(OLD, 401)
    assert await client.status(NEW) == 200
    assert [event["keys"] for event in client.gateway.events("tokens.loaded")] == [2, 1]


async def test_a_secret_is_replaced_too_though_size_and_time_stay_the_same(
    client: Client, files: tuple[Path, Path]
) -> None:
    was = files[1].stat()
    files[1].write_bytes(b"n" * 32)
    os.utime(files[1], ns=(was.st_atime_ns, was.st_mtime_ns))
    await client.becomes(b"n" * 32, 200)
    await client.becomes(b"o" * 32, 401)


@pytest.mark.parametrize("broken", ["half", "no key", "gone", "short secret"])
async def test_a_file_that_becomes_unusable_keeps_its_keys_and_is_reported_once(
    client: Client, files: tuple[Path, Path], broken: str
) -> None:
    jwks, secret = files
    match broken:
        case "half":
            put(jwks, key_set(NEW)[:-40].encode())
        case "no key":
            put(jwks, b'{"keys":[]}')
        case "gone":
            jwks.unlink()
        case "short secret":
            put(secret, b"n" * 31)
    event = await asyncio.to_thread(client.gateway.wait_for, "tokens.load_failed", 1, 10 * BOUND_S)
    assert (event["keys"], str(secret if "secret" in broken else jwks)) == (1, event["file"])
    assert "nnnn" not in event["error"]
    assert (await client.status(OLD), await client.status(b"o" * 32), await client.status(NEW)) == (200, 200, 401)
    await _reloaded_twice(client, *((jwks, True) if "secret" in broken else (secret, False)))
    put(*((secret, b"n" * 32) if "secret" in broken else (jwks, key_set(NEW).encode())))
    await client.becomes(b"n" * 32 if "secret" in broken else NEW, 200)
    assert len(client.gateway.events("tokens.load_failed")) == 1


async def _reloaded_twice(client: Client, other: Path, is_set: bool) -> None:
    """Change the good file and change it back: both files are read in one turn."""
    for counts in (True, False):
        if is_set:
            put(other, (key_set(OLD, NEW) if counts else key_set(OLD)).encode())
        else:
            put(other, (b"m" if counts else b"o") * 32)
        await client.becomes(NEW if is_set else b"m" * 32, 200 if counts else 401)
