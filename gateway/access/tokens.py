"""JSON Web Tokens: whose signature counts, and what a good one says.

Each algorithm has keys of its own, HS256 the secret and RS256 the RSA keys of the JWKS file, and a token is checked
with the keys of the algorithm that it names. So a public key is never taken for a secret, and `none` names no keys.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from bus.errors import Unauthorized
from bus.params import short
from bus.settings import SettingsError
from bus.subjects import is_token
from gateway.access.caller import Caller

_HS256: Final = "HS256"
_RS256: Final = "RS256"
#: RFC 7518: at least as long as the hash.
_MIN_SECRET_BYTES: Final = 32
_MIN_RSA_BITS: Final = 2048
#: PyJWT lets through what its decoders say of bytes that are no text, of deep nesting, of times that are no numbers.
_BAD_TOKEN: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class _Jwks(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class Tokens:
    """Checks tokens. Reads its files once; a new key takes a restart."""

    def __init__(self, *, secret_file: str = "", jwks_file: str = "", audience: str = "", issuer: str = "") -> None:
        """Raises SettingsError, naming the setting, if a file cannot be read or holds no key that could count."""
        self._keys: dict[str, dict[str, bytes | RSAPublicKey]] = {}
        if secret_file:
            self._keys[_HS256] = {"": _secret(Path(secret_file))}
        if jwks_file:
            self._keys[_RS256] = dict(_rsa_keys(Path(jwks_file)))
        self._audience, self._issuer = audience or None, issuer or None
        self._options: Any = {"verify_aud": bool(audience), "strict_aud": False}

    def caller(self, text: str, address: str) -> Caller:
        """Whom a token speaks for. Raises Unauthorized, saying why it does not count."""
        claims = self._claims(text)
        tenant, worker = claims.get("tenant"), claims.get("preferred_worker", "")
        if not (isinstance(tenant, str) and is_token(tenant)):
            raise Unauthorized(f"the token's claim `tenant` must name one, not {short(str(tenant))!r}")
        if not isinstance(worker, str) or (worker and not is_token(worker)):
            raise Unauthorized(f"the token's claim `preferred_worker` must name one, not {short(str(worker))!r}")
        subject = claims.get("sub", "")
        named = hashlib.sha256(f"{tenant}\0{subject}".encode(errors="backslashreplace")).hexdigest()
        return Caller(tenant=tenant, key=f"jwt-{named[:12]}", address=address, preferred_worker=worker)

    def _claims(self, text: str) -> dict[str, Any]:
        try:
            head = jwt.get_unverified_header(text)
            algorithm = head.get("alg")
            keys = self._keys.get(algorithm) if isinstance(algorithm, str) else None
            if keys is None:
                offered = " or ".join(sorted(self._keys))
                raise Unauthorized(f"the token is signed with {short(str(algorithm))!r}, here only {offered} counts")
            claims: dict[str, Any] = jwt.decode(
                text,
                _choose(keys, head.get("kid")),
                algorithms=[str(algorithm)],
                audience=self._audience,
                issuer=self._issuer,
                options=self._options,
            )
        except _BAD_TOKEN as error:
            raise Unauthorized(f"the token does not count: {error}") from error
        return claims


def _choose(keys: dict[str, Any], kid: object) -> Any:
    """The key that the token names; of a single one, whatever it names. Raises Unauthorized."""
    if len(keys) == 1:
        (name, key), *_ = keys.items()
        if not name or kid is None or kid == name:
            return key
    elif isinstance(kid, str) and kid in keys:
        return keys[kid]
    raise Unauthorized(f"the token names the key {short(str(kid))!r}, which is not one of ours")


def _secret(file: Path) -> bytes:
    secret = _read("--jwt-secret-file", file).strip()
    if len(secret) < _MIN_SECRET_BYTES:
        raise SettingsError(
            f"--jwt-secret-file: {file} holds {len(secret)} bytes, a secret for HS256 has at least {_MIN_SECRET_BYTES}"
        )
    if secret.startswith((b"-----BEGIN ", b"ssh-")):
        raise SettingsError(f"--jwt-secret-file: {file} is a key file; public keys go into --jwks-file")
    return secret


def _rsa_keys(file: Path) -> list[tuple[str, RSAPublicKey]]:
    try:
        found = msgspec.json.decode(_read("--jwks-file", file), type=_Jwks).keys
    except msgspec.DecodeError as error:
        raise SettingsError(f"--jwks-file: {file} is no JSON Web Key Set: {error}") from error
    ours = [each for each in found if each.get("kty") == "RSA" and each.get("use", "sig") == "sig"]
    ours = [each for each in ours if each.get("alg", _RS256) == _RS256]
    keys = [(str(each.get("kid", "")), _rsa_key(file, each)) for each in ours]
    if not keys:
        raise SettingsError(f"--jwks-file: {file} has no RSA key that signs with RS256")
    if len({kid for kid, _ in keys}) < len(keys):
        raise SettingsError(f"--jwks-file: {file} has two keys of one `kid`")
    return keys


def _rsa_key(file: Path, told: dict[str, Any]) -> RSAPublicKey:
    if "d" in told:
        raise SettingsError(f"--jwks-file: {file} holds a private key; publish only the public ones")
    try:
        key = jwt.algorithms.RSAAlgorithm.from_jwk(told)
    except (jwt.PyJWTError, ValueError) as error:
        raise SettingsError(f"--jwks-file: {file}: {error}") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < _MIN_RSA_BITS:
        raise SettingsError(f"--jwks-file: {file} has an RSA key of fewer than {_MIN_RSA_BITS} bits")
    return key


def _read(flag: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{flag}: cannot read {file}: {error.strerror}") from error
