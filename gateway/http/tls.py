"""TLS in the gateway itself, for clients that speak nothing else and have no proxy before them."""

import ssl
from pathlib import Path
from typing import Final

from bus.settings import SettingsError

_CERT_FLAG: Final = "--tls-cert"
_KEY_FLAG: Final = "--tls-key"


def server_context(cert_file: str, key_file: str) -> ssl.SSLContext | None:
    """The context of a server with these PEM files; None without any.

    Raises SettingsError, naming the setting: one of the two alone, a file that cannot be read or has no certificate or
    key, an encrypted key, a key that is not the certificate's.
    """
    if not cert_file and not key_file:
        return None
    if not cert_file or not key_file:
        given, lacking = (_CERT_FLAG, _KEY_FLAG) if cert_file else (_KEY_FLAG, _CERT_FLAG)
        raise SettingsError(f"{lacking}: is needed with {given}")
    certificate, key = _read(_CERT_FLAG, cert_file), _read(_KEY_FLAG, key_file)
    if b"ENCRYPTED" in key:
        raise SettingsError(f"{_KEY_FLAG}: {key_file} is encrypted; a gateway starts without a passphrase")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(cadata=certificate.decode("latin-1"))
    except (ssl.SSLError, TypeError, ValueError) as error:  # TypeError: it is not ASCII
        raise SettingsError(f"{_CERT_FLAG}: {cert_file} has no certificate in PEM") from error
    try:
        context.load_cert_chain(cert_file, key_file, password=b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"{_KEY_FLAG}: {key_file} is not the key of the certificate in {cert_file}") from error
        raise SettingsError(f"{_KEY_FLAG}: {key_file} has no usable private key in PEM ({error.reason})") from error
    return context


def _read(flag: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{flag}: cannot read {file}: {error.strerror or error}") from error
