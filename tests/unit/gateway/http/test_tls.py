"""Files of TLS: each that cannot be used is refused by the name of its setting."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bus.settings import SettingsError
from gateway.http.tls import Certificate, open_certificate
from tests.support.tls import certificate


def test_without_files_there_is_no_tls_and_with_both_there_is(tmp_path: Path) -> None:
    assert open_certificate("", "") is None
    assert open_certificate(*map(str, certificate(tmp_path))) is not None


def _other_key(folder: Path, *, passphrase: bytes = b"") -> Path:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    file = folder / ("sealed.key" if passphrase else "other.key")
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
    )
    return file


def test_a_file_that_cannot_be_used_is_refused_by_its_name(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    garbage, truncated = tmp_path / "garbage", tmp_path / "truncated"
    garbage.write_bytes(bytes(range(256)))
    truncated.write_bytes(cert.read_bytes()[:-200])
    absent = tmp_path / "absent"
    for given, words in (
        ((cert, ""), "--tls-key: is needed with --tls-cert"),
        (("", key), "--tls-cert: is needed with --tls-key"),
        ((absent, key), f"--tls-cert: cannot read {absent}: No such file"),
        ((cert, absent), f"--tls-key: cannot read {absent}: No such file"),
        ((tmp_path, key), f"--tls-cert: cannot read {tmp_path}: Is a directory"),
        ((garbage, key), f"--tls-cert: {garbage} has no certificate"),
        ((truncated, key), f"--tls-cert: {truncated} has no certificate"),
        ((key, key), f"--tls-cert: {key} has no certificate"),
        ((cert, garbage), f"--tls-key: {garbage} has no usable private key"),
        ((cert, cert), f"--tls-key: {cert} has no usable private key"),
        ((cert, _other_key(tmp_path)), "other.key is not the key of the certificate"),
        ((cert, _other_key(tmp_path, passphrase=b"secret")), "sealed.key is encrypted"),
    ):
        with pytest.raises(SettingsError) as raised:
            open_certificate(*map(str, given))
        assert words in str(raised.value)


def test_changed_files_replace_the_certificate_and_unusable_ones_are_reported_once(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    served = Certificate(str(cert), str(key))
    first = served.context
    assert not served.reload()
    old_key = key.read_bytes()
    key.write_bytes(b"half a fi")
    with pytest.raises(SettingsError, match="has no usable private key"):
        served.reload()
    assert not served.reload(), "the same fault is not reported again"
    key.unlink()
    with pytest.raises(SettingsError, match="cannot read"):
        served.reload()
    assert served.context is first
    key.write_bytes(old_key)
    assert served.reload()
    certificate(tmp_path)
    assert served.reload()
    assert served.context is not first
