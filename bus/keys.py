"""API keys."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key may use. None: no limit."""

    requests_per_s: float | None = None
    #: Requests that may come at once; None: as many as a second's.
    burst: int | None = None
    #: Accepted and not ended.
    concurrent_jobs: int | None = None
    #: Seconds of audio made in a day.
    audio_s_per_day: float | None = None
