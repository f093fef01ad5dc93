"""JSON Web Tokens: which are valid, and that no choice of the algorithm makes another one valid."""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bus.errors import Unauthorized
from bus.settings import SettingsError
from gateway.access.tokens import TokenVerifier

SECRET = b"0123456789abcdef0123456789abcdef"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def jwk(key: rsa.RSAPrivateKey, **fields: str) -> dict[str, Any]:
    return {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **fields}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    (tmp_path / "jwks").write_text(json.dumps({"keys": [jwk(RSA_KEY, kid="one"), jwk(OTHER_KEY, kid="two")]}))
    return {"secret_file": str(tmp_path / "secret"), "jwks_file": str(tmp_path / "jwks")}


@pytest.fixture
def tokens(files: dict[str, str]) -> TokenVerifier:
    return TokenVerifier(**files)


def hs256(key: bytes = SECRET, head: dict[str, Any] | None = None, **claims: Any) -> str:
    return jwt.encode({"tenant": "acme", **claims}, key, "HS256", head)


def rs256(key: rsa.RSAPrivateKey = RSA_KEY, kid: str | None = "one", **claims: Any) -> str:
    return jwt.encode({"tenant": "acme", **claims}, key, "RS256", {"kid": kid} if kid else None)


def by_hand(head: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(head).encode(), json.dumps(claims).encode(), signature)
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("sign", [hs256, rs256])
def test_a_valid_token_is_its_tenants(tokens: TokenVerifier, sign: Callable[..., str]) -> None:
    text = sign(exp=time.time() + 60, nbf=time.time() - 60, preferred_worker="w7", sub="me")
    found = tokens.caller(text, "10.0.0.1")
    assert (found.tenant, found.address, found.preferred_worker) == ("acme", "10.0.0.1", "w7")
    assert found.key.startswith("jwt-")


def test_two_subjects_of_a_tenant_have_different_keys_and_one_keeps_its_own(tokens: TokenVerifier) -> None:
    keys = [tokens.caller(hs256(sub=sub, iat=number), "").key for number, sub in enumerate(("a", "b", "a"))]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": 1}, "expired"),
        ({"nbf": 9_999_999_999}, "not yet valid"),
        ({"exp": "soon"}, "exp"),
        ({"tenant": None}, "tenant"),
        ({"tenant": "a.b"}, "'a.b'"),
        ({"tenant": ["acme"]}, "tenant"),
        ({"preferred_worker": 7}, "preferred_worker"),
        ({"preferred_worker": "w.1"}, "'w.1'"),
    ],
)
@pytest.mark.parametrize("sign", [hs256, rs256])
def test_a_token_whose_claims_do_not_count_is_refused(
    tokens: TokenVerifier, sign: Callable[..., str], claims: dict[str, Any], says: str
) -> None:
    with pytest.raises(Unauthorized, match=says):
        tokens.caller(sign(**claims), "")


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 7, ["HS256"], "HS512", "ES256", "RS512"])
@pytest.mark.parametrize("signature", [b"", b"x" * 32])
def test_no_other_algorithm_is_accepted_not_even_none(tokens: TokenVerifier, alg: object, signature: bytes) -> None:
    with pytest.raises(Unauthorized):
        tokens.caller(by_hand({"alg": alg, "typ": "JWT"}, {"tenant": "acme"}, signature), "")


def test_a_public_key_is_not_used_as_a_secret(tokens: TokenVerifier) -> None:
    """The old trick: sign with the public key as if it were HS256's secret, and hope that it is looked up as such."""
    import hashlib
    import hmac

    for public in (PUBLIC_PEM, PUBLIC_PEM.strip(), json.dumps(jwk(RSA_KEY)).encode()):
        for kid in ({}, {"kid": "one"}):
            text = by_hand({"alg": "HS256", **kid}, {"tenant": "acme"})
            signed = text.rpartition(".")[0]
            signature = hmac.new(public, signed.encode(), hashlib.sha256).digest()
            with pytest.raises(Unauthorized):
                tokens.caller(f"{signed}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}", "")


def test_each_algorithm_is_accepted_only_where_it_has_keys(files: dict[str, str]) -> None:
    with pytest.raises(Unauthorized, match="accepted here: RS256"):
        TokenVerifier(jwks_file=files["jwks_file"]).caller(hs256(), "")
    with pytest.raises(Unauthorized, match="accepted here: HS256"):
        TokenVerifier(secret_file=files["secret_file"]).caller(rs256(), "")


@pytest.mark.parametrize(
    "text",
    [
        hs256(b"another secret, also 32 bytes long"),
        rs256(OTHER_KEY, "one"),
        rs256(RSA_KEY, "three"),
        rs256(RSA_KEY, None),
        hs256()[:-2],
        "ey.ey.ey",
        "..",
        "ey" + "." * 2,
        by_hand({"alg": "HS256"}, {"tenant": "acme"}),
        hs256(head={"jwk": jwk(RSA_KEY), "jku": "http://127.0.0.1:1/"}).replace(".", ".A", 1),
    ],
)
def test_a_token_with_another_signature_is_refused(tokens: TokenVerifier, text: str) -> None:
    with pytest.raises(Unauthorized):
        tokens.caller(text, "")


def test_a_set_of_one_key_needs_no_name(tmp_path: Path) -> None:
    (tmp_path / "jwks").write_text(json.dumps({"keys": [jwk(RSA_KEY, kid="one"), {"kty": "EC", "kid": "e"}]}))
    tokens = TokenVerifier(jwks_file=str(tmp_path / "jwks"))
    assert tokens.caller(rs256(kid=None), "").tenant == "acme"
    with pytest.raises(Unauthorized, match="'two'"):
        tokens.caller(rs256(kid="two"), "")


def test_audience_and_issuer_are_checked_where_they_are_set(files: dict[str, str]) -> None:
    assert TokenVerifier(**files).caller(hs256(aud="elsewhere", iss="them"), "").tenant == "acme"
    strict = TokenVerifier(**files, audience="antiphon", issuer="us")
    assert strict.caller(hs256(aud=["x", "antiphon"], iss="us"), "").tenant == "acme"
    for claims in ({"iss": "us"}, {"aud": "antiphon"}, {"aud": "x", "iss": "us"}, {"aud": "antiphon", "iss": "them"}):
        with pytest.raises(Unauthorized):
            strict.caller(hs256(**claims), "")


def test_a_refusal_does_not_contain_the_token(tokens: TokenVerifier) -> None:
    text = hs256(b"another secret, also 32 bytes long", sub="user")
    with pytest.raises(Unauthorized) as refused:
        tokens.caller(text, "")
    assert not any(part in str(refused.value) for part in text.split("."))


@pytest.mark.parametrize(
    ("setting", "content", "says"),
    [
        ("secret_file", "too short", "--jwt-secret-file: .* at least 32"),
        ("secret_file", PUBLIC_PEM.decode(), "--jwt-secret-file: .* public keys go into --jwks-file"),
        ("jwks_file", "[]", "--jwks-file: .* is not a JSON Web Key Set"),
        ("jwks_file", '{"keys":[]}', "--jwks-file: .* no RSA key"),
        ("jwks_file", json.dumps({"keys": [{"kty": "oct", "k": "eHh4"}]}), "--jwks-file: .* no RSA key"),
        ("jwks_file", json.dumps({"keys": [{"kty": "RSA"}]}), "--jwks-file"),
        ("jwks_file", json.dumps({"keys": [jwk(RSA_KEY), jwk(OTHER_KEY)]}), "--jwks-file: .* one `kid`"),
        ("jwks_file", json.dumps({"keys": [jwk(RSA_KEY, d="AQAB")]}), "--jwks-file: .* private"),
        ("jwks_file", json.dumps({"keys": [jwk(RSA_KEY, n="xjhYzrM")]}), "--jwks-file: .* fewer than 2048 bits"),
        ("jwks_file", json.dumps({"keys": [jwk(RSA_KEY) | {"n": 7}]}), "--jwks-file"),
        ("jwks_file", "", "--jwks-file: .* is not a JSON Web Key Set"),
        ("jwks_file", None, "--jwks-file: cannot read"),
        ("secret_file", "", "--jwt-secret-file: .* at least 32"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_the_start(
    tmp_path: Path, setting: str, content: str | None, says: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=says):
        TokenVerifier(**{setting: str(file)})
