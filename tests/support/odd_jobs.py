"""Random messages for the job queue: jobs in which any field may be any JSON, and bytes that are no JSON at all."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bus import wire


def _nest(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


#: Texts that are no JSON value, put in place of one.
_RAW = ("NaN", "-Infinity", "1e999", "1" + "0" * 4000, "01", '"\\ud800"', "[" * 40 + "]" * 40, "[" * 3000, "", "{")
_DATES = (
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z",
    "2030-02-30T00:00:00Z",
    "2030-01-01T00:00:00",
    "2030-01-01",
    "2016-12-31T23:59:60Z",
)
_IDS = ("", "same", "a.b", "q1", "q99999", "c" + "0" * 40, "c" + "0" * 40 + "-1", "k" + "0" * 40, "x" * 65, "ü")
_HUGE = st.sampled_from((2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, -(10**300)))
_SCALARS = st.none() | st.booleans() | st.integers() | _HUGE | st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
_JSON = st.recursive(
    _SCALARS | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)
_BROKEN = st.sampled_from(_RAW).map(lambda text: msgspec.Raw(text.encode()))
_DEEP = st.builds(_nest, _SCALARS, st.integers(20, 60))
#: Short, or refused: a long job that is valid would run.
_SECONDS = st.just(0.01) | _HUGE | st.sampled_from((-1, 0, "1", None, [1], msgspec.Raw(b"1e-400")))
_EXTRA = {"x": _JSON | _DEEP, "voice": _JSON}
#: Values of the right type, or close to it, so that most messages decode.
_TYPED = {
    "input": st.just("x") | _TEXTS | st.sampled_from(("", "a\x00b", "x" * 100_001)),
    "params": st.fixed_dictionaries({"seconds": _SECONDS}, optional=_EXTRA),
    "id": st.sampled_from(_IDS) | _TEXTS,
    "seed": st.integers() | _HUGE,
    "expires_at": st.sampled_from(_DATES) | st.datetimes(timezones=st.timezones()).map(lambda due: due.isoformat()),
    "linger_s": st.sampled_from((0, 3600, 3600.1, -1, 1e300)) | _HUGE,
    "first_audio_deadline_s": st.sampled_from((1e-300, 43200, 43201, 1e300)),
    "run_on": st.booleans(),
    "client": st.fixed_dictionaries({}, optional={"api": _TEXTS, "key": _TEXTS, "traceparent": _TEXTS}),
    "retry_of": _TEXTS,
    "voice": _TEXTS,
    "colour": _JSON | _DEEP,
}
#: Fields of which a copy in the body must agree with the subject.
_COPIES = ("model", "version", "lane", "tenant")
_BASE = {"input": "x", "params": {"seconds": 0.01}}


def odd_messages() -> st.SearchStrategy[bytes]:
    """Payloads: small tones with some fields replaced, by values of the right type or by any JSON; and no jobs at all.

    A job among them that is valid makes 10 ms of audio.
    """
    names = st.sampled_from((*_TYPED, *_COPIES))
    one_typed = st.sampled_from(tuple(_TYPED)).flatmap(lambda name: _based({name: _TYPED[name]}))
    one_of_any_type = names.flatmap(lambda name: _based({name: _JSON}))
    one_broken = names.flatmap(lambda name: _based({name: _BROKEN}))
    some = st.lists(st.sampled_from(tuple(_TYPED)), min_size=2, max_size=5, unique=True).flatmap(
        lambda chosen: _based({name: _TYPED[name] for name in chosen})
    )
    kinds = (*(one_typed,) * 4, *(some,) * 4, one_of_any_type, one_broken, _JSON)
    return st.sampled_from((*(kind.map(wire.encode) for kind in kinds), st.binary(max_size=40))).flatmap(
        lambda kind: kind
    )


def _based(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields).map(lambda drawn: {**_BASE, **drawn})


def draw_messages(num: int) -> list[bytes]:
    """`num` of them."""
    drawn: list[bytes] = []

    @settings(
        max_examples=num, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None
    )
    @given(odd_messages())
    def draw(payload: bytes) -> None:
        drawn.append(payload)

    draw()
    return drawn
