"""What a gateway process is told at its start."""

from typing import Annotated

import msgspec
from msgspec import Meta

from bus.settings import BusSettings, Bytes, LogFormat, LogLevel, Seconds, doc


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    bus: BusSettings = msgspec.field(default_factory=BusSettings)
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535), doc("0 means any free one.")] = 8080
    max_body_bytes: Annotated[Bytes, doc("Of one HTTP request.")] = 1 << 20
    ping_s: Annotated[Seconds, doc("Between two pings of the fleet: a dead worker is noticed within one.")] = 0.2
    drain_s: Annotated[float, Meta(ge=0, le=86_400), doc("On SIGTERM streams that run may go on for this long.")] = 10.0
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
