"""Verifies JSON Web Tokens, and reads the caller from their claims.

Each algorithm has keys of its own: HS256 the secret, RS256 the RSA keys of the JWKS file. A token is verified with the
keys of the algorithm that it names. So a public key is never used as a secret, and the algorithm `none` has no keys.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from bus.errors import Unauthorized
from bus.params import short
from bus.settings import SettingsError
from bus.subjects import is_token
from bus.telemetry.logging import logger
from gateway.access.caller import Caller
from gateway.access.files import WatchedFile

log = logger(__name__)

_HS256: Final = "HS256"
_RS256: Final = "RS256"
#: RFC 7518: at least as long as the hash.
_MIN_SECRET_BYTES: Final = 32
_MIN_RSA_BITS: Final = 2048
#: PyJWT passes on its decoders' errors for bytes that are not text, deep nesting, and times that are not numbers.
_BAD_TOKEN: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
#: And those for a key with parts of wrong types.
_BAD_KEY: Final = (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError)
#: Pause between two reads of the files: tokens of a key that was removed must be refused within 2 s.
_POLL_S: Final = 1.0

#: By `kid`; a secret has the name "".
Keys = Mapping[str, bytes | RSAPublicKey]


class _Jwks(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class TokenVerifier:
    """Verifies tokens by the keys in its files; `run` follows changes of the files."""

    def __init__(self, *, secret_file: str = "", jwks_file: str = "", audience: str = "", issuer: str = "") -> None:
        """`audience`, `issuer`: required values of `aud` and `iss`; "": any.

        Raises SettingsError, naming the setting, for a file that cannot be read or has no usable key.
        """
        #: By algorithm.
        self._files: dict[str, _KeyFile] = {}
        if secret_file:
            self._files[_HS256] = _KeyFile("--jwt-secret-file", secret_file, _secret)
        if jwks_file:
            self._files[_RS256] = _KeyFile("--jwks-file", jwks_file, _rsa_keys)
        for file in self._files.values():
            file.reload()
        self._audience = audience or None
        self._issuer = issuer or None
        self._options: Any = {"verify_aud": bool(audience), "strict_aud": False}

    async def run(self, poll_s: float = _POLL_S) -> None:
        """Reload changed files every `poll_s` until cancelled. An unusable file leaves its keys as they were."""
        while True:
            await asyncio.sleep(poll_s)
            for file in self._files.values():
                try:
                    if await asyncio.to_thread(file.reload):
                        log.info("tokens.loaded", file=file.path, keys=len(file.keys))
                except SettingsError as error:
                    log.error("tokens.load_failed", file=file.path, keys=len(file.keys), error=str(error))

    def caller(self, text: str, address: str) -> Caller:
        """The caller of a token. Raises Unauthorized with the reason if the token is not valid."""
        claims = self._claims(text)
        tenant, worker = claims.get("tenant"), claims.get("preferred_worker", "")
        if not (isinstance(tenant, str) and is_token(tenant)):
            raise Unauthorized(f"the token's claim `tenant` must be a name, not {short(str(tenant))!r}")
        if not isinstance(worker, str) or (worker and not is_token(worker)):
            raise Unauthorized(f"the token's claim `preferred_worker` must be a name, not {short(str(worker))!r}")
        subject = claims.get("sub", "")
        named = hashlib.sha256(f"{tenant}\0{subject}".encode(errors="backslashreplace")).hexdigest()
        return Caller(tenant=tenant, key=f"jwt-{named[:12]}", address=address, preferred_worker=worker)

    def _claims(self, text: str) -> dict[str, Any]:
        try:
            head = jwt.get_unverified_header(text)
            algorithm = head.get("alg")
            file = self._files.get(algorithm) if isinstance(algorithm, str) else None
            if file is None:
                offered = ", ".join(sorted(self._files))
                raise Unauthorized(f"the token is signed with {short(str(algorithm))!r}, accepted here: {offered}")
            claims: dict[str, Any] = jwt.decode(
                text,
                _choose(file.keys, head.get("kid")),
                algorithms=[str(algorithm)],
                audience=self._audience,
                issuer=self._issuer,
                options=self._options,
            )
        except _BAD_TOKEN as error:
            raise Unauthorized(f"the token is not valid: {error}") from error
        return claims


class _KeyFile:
    """The keys of one file, as they were when it was last usable."""

    def __init__(self, flag: str, path: str, parse: Callable[[str, bytes], Keys]) -> None:
        """`parse(where, data)` raises SettingsError. `reload` reads the file first."""
        self.keys: dict[str, bytes | RSAPublicKey] = {}
        self._file = WatchedFile(flag, path)
        self._parse = parse

    @property
    def path(self) -> str:
        """The file's path."""
        return str(self._file.path)

    def reload(self) -> bool:
        """Read the file; whether it has changed. Blocks. Raises SettingsError, once for each unusable content."""
        found = self._file.changed()
        if found is None:
            return False
        self.keys = dict(self._parse(f"{self._file.flag}: {self.path}", found))
        return True


def _choose(keys: Mapping[str, Any], kid: object) -> Any:
    """The key that the token names; a token without `kid` may use an only key. Raises Unauthorized."""
    if len(keys) == 1:
        (name, key), *_ = keys.items()
        if not name or kid is None or kid == name:
            return key
    elif isinstance(kid, str) and kid in keys:
        return keys[kid]
    raise Unauthorized(f"the token names the key {short(str(kid))!r}, which is not known here")


def _secret(where: str, data: bytes) -> Keys:
    secret = data.strip()
    if len(secret) < _MIN_SECRET_BYTES:
        raise SettingsError(f"{where} holds {len(secret)} bytes, a secret for HS256 has at least {_MIN_SECRET_BYTES}")
    if secret.startswith((b"-----BEGIN ", b"ssh-")):
        raise SettingsError(f"{where} is a key file; public keys go into --jwks-file")
    return {"": secret}


def _rsa_keys(where: str, data: bytes) -> Keys:
    try:
        found = msgspec.json.decode(data, type=_Jwks).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{where} is not a JSON Web Key Set: {error}") from error
    ours = [each for each in found if each.get("kty") == "RSA" and each.get("use", "sig") == "sig"]
    ours = [each for each in ours if each.get("alg", _RS256) == _RS256]
    keys = {str(each.get("kid", "")): _rsa_key(where, each) for each in ours}
    if not keys:
        raise SettingsError(f"{where} has no RSA key that signs with RS256")
    if len(keys) < len(ours):
        raise SettingsError(f"{where} has two keys of one `kid`")
    return keys


def _rsa_key(where: str, jwk: dict[str, Any]) -> RSAPublicKey:
    if "d" in jwk:
        raise SettingsError(f"{where} holds a private key; publish only the public ones")
    try:
        key = jwt.algorithms.RSAAlgorithm.from_jwk(jwk)
    except _BAD_KEY as error:
        raise SettingsError(f"{where}: {type(error).__name__}: {error}") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < _MIN_RSA_BITS:
        raise SettingsError(f"{where} has an RSA key of fewer than {_MIN_RSA_BITS} bits")
    return key
