"""Settings of a gateway process."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bus.marking import DEFAULT_MARKING
from bus.settings import BusSettings, Bytes, LogFormat, LogLevel, Seconds, doc, matching

Origin = Annotated[str, matching(r"^(\*|https?://[^/\s,]+)\Z", "* or an origin like https://app.example.org")]
HostName = Annotated[str, matching(r"^[^\s/,:*]+\Z", "a name without scheme and port")]

DefaultMarking = Annotated[
    Literal["none", "tag", "inaudible"],
    doc("How audio is marked as synthetic, for tenants without a marking of their own (`antiphon keys marking`)."),
]


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one process, from flags, environment and file; `doc` is the text of `--help`."""

    bus: BusSettings = msgspec.field(default_factory=BusSettings)
    host: Annotated[str, Meta(min_length=1), doc("The address to listen at; beyond loopback a key is needed.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65_535), doc("0 means any free port.")] = 8080
    anonymous: Annotated[
        bool | None, doc("Serve callers without an API key, as the tenant `public`; if not given, on loopback only.")
    ] = None
    open_lists: Annotated[
        bool, doc("List models and voices for callers without a key; some programs request these lists without theirs.")
    ] = False
    cors_origins: Annotated[
        tuple[Origin, ...],
        doc("Origins whose pages may send requests, as in https://app.example.org; * is all."),
    ] = ()
    allowed_hosts: Annotated[
        tuple[HostName, ...],
        doc("More names by which callers without a key reach a gateway on loopback, as in host.docker.internal."),
    ] = ()
    tls_cert: Annotated[
        str, doc("PEM file with the certificate, and those up to its authority; then the gateway speaks https alone.")
    ] = ""
    tls_key: Annotated[str, doc("PEM file with the certificate's private key, not encrypted.")] = ""
    jwt_secret_file: Annotated[str, doc("File with the secret of tokens signed with HS256.")] = ""
    jwks_file: Annotated[str, doc("File with a JSON Web Key Set: the public keys of tokens signed with RS256.")] = ""
    jwt_audience: Annotated[str, doc("The `aud` that tokens must name, if given.")] = ""
    jwt_issuer: Annotated[str, doc("The `iss` that tokens must have, if given.")] = ""
    marking: DefaultMarking = DEFAULT_MARKING
    shared_cache: Annotated[
        bool,
        doc("Answer identical requests of all tenants with one run: tenants can then detect each other's."),
    ] = False
    address_requests_per_s: Annotated[
        Annotated[float, Meta(gt=0, le=1e6)] | None,
        doc("Limit of each client address, whatever its keys; an IPv6 network of 64 bits is one address."),
    ] = None
    address_burst: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        doc("Requests that one address may send at once; if not given, as many as in a second."),
    ] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        doc("Proxies whose X-Forwarded-For counts: addresses or networks, as in 10.0.0.0/8."),
    ] = ()
    webhook_private: Annotated[
        bool, doc("Send webhooks to private addresses too; callers can then reach services of your own network.")
    ] = False
    webhook_max_tries: Annotated[
        int, Meta(ge=1, le=100), doc("Tries of one event before it goes to the dead letters; 16 take about five hours.")
    ] = 16
    webhook_retry_s: Annotated[Seconds, doc("Delay before the second try; doubles with each, to an hour.")] = 1.0
    max_body_bytes: Annotated[Bytes, doc("Largest body of an HTTP request.")] = 1 << 20
    max_blob_bytes: Annotated[Bytes, doc("Largest blob: the body of a `PUT /v1/blobs`.")] = 256 << 20
    blob_keep_s: Annotated[
        Seconds, doc("A blob stays for this long after its last PUT, and until the deadline of each job that names it.")
    ] = 3600.0
    max_voices: Annotated[int, Meta(ge=0, le=100_000), doc("Uploaded voices of one tenant.")] = 1000
    max_voice_bytes: Annotated[Bytes, doc("Largest file of a voice, as it is uploaded.")] = 10 << 20
    voice_consent: Annotated[
        Literal["", "any", "statement"],
        doc(
            "What an upload of a voice must say about consent: `statement`: it, in words; `any`: nothing. If not "
            "given, `statement` with an API key, else `any`."
        ),
    ] = ""
    buffer_bytes: Annotated[
        Bytes,
        doc("Memory for bodies that are read and answers that are collected, of all clients together."),
    ] = 256 << 20
    encoded_cache_bytes: Annotated[
        Bytes,
        doc("Memory for finished jobs in encoded formats (mp3, opus, …), so that clients can seek in them."),
    ] = 64 << 20
    encoded_max_s: Annotated[
        Seconds, doc("A finished job longer than this is only streamed in encoded formats: no length, no seeking.")
    ] = 300.0
    stalled_reader_s: Annotated[
        Seconds, doc("A connection is reset when its client has read none of the waiting data for this long.")
    ] = 300.0
    connections_per_address: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        doc(
            "Connections of one client address; if not given, an address may have eight ninths of those that are free."
        ),
    ] = None
    request_head_s: Annotated[
        Seconds, doc("A connection is closed when the head of a request is not complete after this long.")
    ] = 10.0
    request_body_s: Annotated[
        Seconds,
        doc("A body may take this long, and a second more for each 16 KiB; and pause for this long."),
    ] = 30.0
    keep_alive_s: Annotated[Seconds, doc("A connection without a request is closed after this long.")] = 75.0
    no_worker_s: Annotated[
        Seconds,
        doc("A request that waits for its first audio gets 503 when no worker has served its model for this long."),
    ] = 10.0
    ping_s: Annotated[Seconds, doc("Interval of pings to the workers: a dead worker is noticed within one.")] = 0.2
    drain_s: Annotated[float, Meta(ge=0, le=86_400), doc("After SIGTERM running streams may go on for this long.")] = (
        10.0
    )
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
