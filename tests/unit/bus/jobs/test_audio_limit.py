"""How much audio a job may make: the bound of its model, compared with the limits of the deployment."""

import math
import random

import pytest

from bus import wire
from bus.bound import SecondsParam
from bus.errors import Invalid, TooLarge, from_code
from bus.jobs.birth import digest
from bus.jobs.giving_up import Refusal
from bus.jobs.ids import derived_from
from bus.jobs.validate import AudioLimit, check_job
from bus.script import PAUSE_S, Turn
from bus.settings import BusSettings
from gpuworker.engines.music.engine import Music
from gpuworker.engines.speech.bound import spoken_text
from gpuworker.engines.tone import RATE_HZ, Tone
from gpuworker.registry import card

TONE = card(Tone().capabilities())
MUSIC = card(Music().capabilities())
BOUND = SecondsParam(param="seconds", default_s=2.0)


def job(**params: object) -> wire.Job:
    return wire.Job(input="x", params=params)


def test_no_job_fills_more_than_a_quarter_of_the_store() -> None:
    limit = AudioLimit.of(BusSettings())
    assert limit.most_bytes(192_000) == 1 << 30
    with pytest.raises(TooLarge) as caught:  # one request for `music` could fill the store of 4 GiB: case A2
        limit.check(job(seconds=36_000), MUSIC.bound, 2 * MUSIC.rate_hz * MUSIC.channels)
    assert caught.value.path == "params.seconds"
    for part in ("params.seconds", "36,000 s", "6,912,000,000 bytes", "5,592 s", "1,073,741,824 bytes", "deployment"):
        assert part in str(caught.value)


def test_no_job_is_longer_than_the_setting() -> None:
    limit = AudioLimit.of(BusSettings(max_audio_s=60.0))
    assert limit.check(job(seconds=60), BOUND, 48_000) == 60 * 48_000
    with pytest.raises(TooLarge, match="60 s"):
        limit.check(job(seconds=60.1), BOUND, 48_000)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 1e308, 2**64 - 1])
def test_a_length_that_no_integer_holds_is_refused(seconds: float) -> None:
    with pytest.raises(TooLarge):
        AudioLimit.of(BusSettings()).check(job(seconds=seconds), BOUND, 48_000)


@pytest.mark.parametrize("params", [{}, {"seconds": "long"}, {"seconds": None}, {"seconds": [1]}])
def test_a_job_without_a_length_has_the_default(params: dict[str, object]) -> None:
    assert AudioLimit.of(BusSettings()).check(job(**params), BOUND, 1000) == pytest.approx(2000, abs=64)


def test_a_model_without_a_bound_has_only_the_limit_of_the_deployment() -> None:
    limit = AudioLimit.of(BusSettings(replies_max_bytes=4000))
    assert limit.check(job(), None, 48_000) == 0
    assert limit.allowed(job(), None, 48_000) == 1000


def test_the_bound_in_the_message_counts_where_there_is_one() -> None:
    limit = AudioLimit.of(BusSettings(replies_max_bytes=4_000_000))
    assert limit.allowed(wire.Job(input="x", max_bytes=700), BOUND, 48_000) == 700
    assert limit.allowed(wire.Job(input="x", max_bytes=2**63), BOUND, 48_000) == 1_000_000
    assert limit.allowed(job(seconds=1), BOUND, 48_000) == pytest.approx(48_000, abs=64)
    assert limit.allowed(job(seconds=1e300), BOUND, 48_000) == 1_000_000


@pytest.mark.parametrize("max_bytes", [-1, 2**64])
def test_a_bound_outside_its_range_is_refused(max_bytes: int) -> None:
    with pytest.raises(Invalid, match="max_bytes"):
        check_job(wire.Job(input="x", max_bytes=max_bytes))


def test_the_bound_is_no_part_of_a_jobs_identity() -> None:
    plain, bounded = wire.Job(input="x"), wire.Job(input="x", max_bytes=7)
    assert digest(plain) == digest(bounded)
    assert derived_from(plain) == derived_from(bounded)


def test_a_script_is_as_long_as_its_turns_and_the_pauses_between_them() -> None:
    limit, bound = AudioLimit.of(BusSettings()), spoken_text()
    turns = [Turn(text="Hello there.", voice="en-gb"), Turn(text="Guten Tag.", voice="de")]
    script = wire.Job(script=turns)
    seconds = sum(bound.seconds(turn.text, turn.voice, {}) for turn in turns) + 2 * PAUSE_S
    assert limit.check(script, bound, 44_100) == pytest.approx(seconds * 44_100, abs=65)
    with pytest.raises(TooLarge, match=r"^script: up to") as caught:
        AudioLimit.of(BusSettings(max_audio_s=seconds - 0.1)).check(script, bound, 44_100)
    assert caught.value.path == "script"


def test_a_lost_word_of_a_turn_keeps_its_field() -> None:
    assert from_code("text_lost", "script[1].text: …", "script[1].text").path == "script[1].text"  # type: ignore[attr-defined]
    assert from_code("text_lost", "input: …").path == "input"  # type: ignore[attr-defined]


def test_a_refusal_for_size_keeps_its_code_and_field() -> None:
    refusal = Refusal.of(TooLarge("input: too much", "input"))
    assert (refusal.code, refusal.path) == ("too_large", "input")
    error = from_code("too_large", "input: too much", "input")
    assert isinstance(error, TooLarge)
    assert error.path == "input"


def test_tone_makes_no_more_than_its_bound() -> None:
    rng, limit = random.Random(9), AudioLimit.of(BusSettings())
    for _ in range(2000):
        seconds = rng.choice([rng.uniform(1e-9, 0.01), rng.uniform(0.01, 20_000), float(rng.randrange(1, 20_000))])
        max_bytes = limit.check(job(seconds=seconds), TONE.bound, 48_000)
        num_bytes = 2 * max(1, round(seconds * RATE_HZ))  # as docs/engines.md defines the length
        assert num_bytes <= max_bytes <= num_bytes + 128
