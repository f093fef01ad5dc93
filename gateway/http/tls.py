"""TLS in the gateway itself, for clients that speak nothing else and have no proxy before them."""

import asyncio
import ssl
from pathlib import Path
from typing import Final

from bus.settings import SettingsError
from bus.telemetry.logging import logger
from gateway.access.files import WatchedFile

log = logger(__name__)

_CERT_FLAG: Final = "--tls-cert"
_KEY_FLAG: Final = "--tls-key"
#: Between two looks at the files.
_POLL_S: Final = 1.0


class Certificate:
    """The server's certificate and its key, as their files were when they were last usable together."""

    def __init__(self, cert_file: str, key_file: str) -> None:
        """Raises as `server_context` does."""
        self._files = (WatchedFile(_CERT_FLAG, cert_file), WatchedFile(_KEY_FLAG, key_file))
        for file in self._files:
            file.changed()
        #: For new connections; a connection keeps the one that it began with.
        self.context = server_context(cert_file, key_file)

    async def run(self, poll_s: float = _POLL_S) -> None:
        """Reload changed files every `poll_s` until cancelled. Unusable files leave the context as it was."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                if await asyncio.to_thread(self.reload):
                    log.info("tls.loaded", file=str(self._files[0].path))
            except SettingsError as error:
                log.error("tls.load_failed", file=str(self._files[0].path), error=str(error))

    def reload(self) -> bool:
        """Read the files; whether one has changed. Blocks. Raises SettingsError, once for each unusable content."""
        found = [file.changed() for file in self._files]
        if found == [None, None]:
            return False
        self.context = server_context(*(str(file.path) for file in self._files))
        return True


def open_certificate(cert_file: str, key_file: str) -> Certificate | None:
    """The certificate in these PEM files; None without any.

    Raises as `server_context` does, and for one of the two alone.
    """
    if not cert_file and not key_file:
        return None
    if not cert_file or not key_file:
        given, lacking = (_CERT_FLAG, _KEY_FLAG) if cert_file else (_KEY_FLAG, _CERT_FLAG)
        raise SettingsError(f"{lacking}: is needed with {given}")
    return Certificate(cert_file, key_file)


def server_context(cert_file: str, key_file: str) -> ssl.SSLContext:
    """The context of a server with these PEM files.

    Raises SettingsError, naming the setting: a file that cannot be read or has no certificate or key, an encrypted key,
    a key that is not the certificate's.
    """
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
