"""A nats-server with TLS: `nats_ca` names the authority of its certificate."""

from pathlib import Path

import msgspec
import pytest

from bus.errors import NoServer
from bus.settings import BusSettings, SettingsError
from bus.transport.connection import Connection
from tests.support.nats_users import guarded_server
from tests.support.tls import certificate


@pytest.mark.parametrize("own_parser", [True, False])
async def test_only_a_server_whose_authority_is_trusted_is_connected_to(tmp_path: Path, *, own_parser: bool) -> None:
    cert, key = certificate(tmp_path)
    config = tmp_path / "tls.conf"
    config.write_text(f'jetstream {{ store_dir: "{tmp_path}/js" }}\ntls {{ cert_file: "{cert}", key_file: "{key}" }}\n')
    with guarded_server(config) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        trusting = BusSettings(nats=url, nats_ca=str(cert), own_parser=own_parser)
        async with await Connection.connect(trusting, "test") as connection:
            await connection.flush()
        with pytest.raises(NoServer, match="certificate verify failed"):
            await Connection.connect(msgspec.structs.replace(trusting, nats_ca=""), "test", patience_s=1.0)
    for file, reason in ((tmp_path / "absent", "No such file"), (key, "")):
        with pytest.raises(SettingsError, match=f"--nats-ca: {file}: {reason}"):
            await Connection.connect(msgspec.structs.replace(trusting, nats_ca=str(file)), "test", patience_s=1.0)
