"""What a gateway process is told at its start."""

from typing import Annotated

import msgspec
from msgspec import Meta

from bus.settings import BusSettings, Bytes, LogFormat, LogLevel, Seconds, doc, matching

Origin = Annotated[str, matching(r"^(\*|https?://[^/\s,]+)\Z", "* or an origin like https://app.example.org")]


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    bus: BusSettings = msgspec.field(default_factory=BusSettings)
    host: Annotated[str, Meta(min_length=1), doc("The address to listen at; beyond loopback keys are needed.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65_535), doc("0 means any free one.")] = 8080
    anonymous: Annotated[
        bool | None, doc("Serve callers without an API key, as the tenant `public`; if not given, on loopback only.")
    ] = None
    cors_origins: Annotated[
        tuple[Origin, ...], doc("Whose pages may ask, as in https://app.example.org; * is every page.")
    ] = ()
    jwt_secret_file: Annotated[str, doc("Holds the secret of tokens signed with HS256.")] = ""
    jwks_file: Annotated[str, doc("A JSON Web Key Set: the public keys of tokens signed with RS256.")] = ""
    jwt_audience: Annotated[str, doc("What a token's `aud` must name, if given.")] = ""
    jwt_issuer: Annotated[str, doc("What a token's `iss` must be, if given.")] = ""
    shared_cache: Annotated[
        bool, doc("Answer equal requests of all tenants with one run: each can then tell what others asked before.")
    ] = False
    address_requests_per_s: Annotated[
        Annotated[float, Meta(gt=0, le=1e6)] | None,
        doc("What one address may ask for, whatever its keys; an IPv6 network of 64 bits is one address."),
    ] = None
    address_burst: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        doc("Requests of one address that may come at once; if not given, as many as a second's."),
    ] = None
    trusted_proxies: Annotated[
        tuple[str, ...], doc("Whose X-Forwarded-For counts: addresses or networks, as in 10.0.0.0/8. None by default.")
    ] = ()
    webhook_private: Annotated[
        bool, doc("Send webhooks to addresses of our own network too; whoever may send jobs can then reach into it.")
    ] = False
    webhook_max_tries: Annotated[
        int, Meta(ge=1, le=100), doc("Of one event, before it goes to the dead letters; 16 take about five hours.")
    ] = 16
    webhook_retry_s: Annotated[Seconds, doc("Before the second try; doubles with each up to an hour.")] = 1.0
    max_body_bytes: Annotated[Bytes, doc("Of one HTTP request.")] = 1 << 20
    encoded_cache_bytes: Annotated[
        Bytes,
        doc("Finished jobs in formats that are encoded (mp3, opus, …), kept in memory so that one can seek in them."),
    ] = 64 << 20
    encoded_max_s: Annotated[
        Seconds, doc("A finished job longer than this is only streamed in such formats: no length, no seeking.")
    ] = 300.0
    stalled_reader_s: Annotated[
        Seconds, doc("A connection is reset when its client took nothing of what waits for it for this long.")
    ] = 300.0
    ping_s: Annotated[Seconds, doc("Between two pings of the fleet: a dead worker is noticed within one.")] = 0.2
    drain_s: Annotated[float, Meta(ge=0, le=86_400), doc("On SIGTERM streams that run may go on for this long.")] = 10.0
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
