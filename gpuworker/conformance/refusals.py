"""Checks of the jobs that an engine refuses, of those that it must take, and of its estimate."""

import math
from dataclasses import replace

from gpuworker.conformance.driving import checked, run, schema_errors
from gpuworker.conformance.rules import Broken, require
from gpuworker.conformance.subject import Subject
from gpuworker.engine import Rejected

_UNKNOWN_VOICE = "zz-nosuch"
#: Between an estimate of the length and the length.
_ESTIMATE_S = 0.01


def refuses_an_unknown_voice(subject: Subject) -> None:
    """A voice that does not exist is refused, with the path `voice` and its name in the message."""
    try:
        checked(subject.engine, replace(subject.jobs.first, voice=_UNKNOWN_VOICE))
    except Rejected as refusal:
        require(refusal.path == "voice", f"an unknown voice is refused with the path {refusal.path!r}, not 'voice'")
        require(_UNKNOWN_VOICE in refusal.message, f"the refusal does not name the voice: {refusal.message!r}")
    else:
        raise Broken(f"the voice {_UNKNOWN_VOICE!r} is not refused with Rejected")


def takes_a_text_of_the_greatest_length(subject: Subject) -> None:
    """An input of as many characters as `max_input_chars` says is valid."""
    limit = subject.engine.capabilities().max_input_chars
    text = "a" if limit == 1 else "a " * (limit // 2)
    try:
        checked(subject.engine, replace(subject.jobs.first, input=text))
    except Rejected as refusal:
        raise Broken(f"an input of {len(text)} characters is refused, the limit is {limit}: {refusal}") from refusal


def fills_in_defaults_once(subject: Subject) -> None:
    """A job without params is valid, also with the defaults that were filled in, and those do not change again."""
    validated = checked(subject.engine, replace(subject.jobs.first, params={}))
    errors = schema_errors(subject.engine, validated)
    require(not errors, f"a default that was filled in is refused: {errors}")
    require(subject.engine.validate(validated) == validated, "a valid job is changed when it is validated again")


def estimates_the_right_length(subject: Subject) -> None:
    """The estimate of a valid job is finite and not negative; a length that it names is the right one."""
    engine, whole = subject.engine, subject.whole
    job = checked(engine, subject.jobs.first)
    estimate = engine.estimate(job)
    require(estimate.device_bytes >= 0, f"device_bytes is {estimate.device_bytes}")
    require(math.isfinite(estimate.cost_s) and estimate.cost_s >= 0, f"cost_s is {estimate.cost_s}")
    if estimate.seconds is not None:
        length_s = whole.end_frame / engine.capabilities().rate_hz
        is_near = abs(estimate.seconds - length_s) <= _ESTIMATE_S
        require(
            is_near, f"the first job is {length_s:.3f} s long, estimated were {estimate.seconds:.3f}; None if unknown"
        )
    both = engine.estimate(job, batch=2).device_bytes
    require(both >= estimate.device_bytes, f"a job takes {both} bytes in a batch, {estimate.device_bytes} alone")


def can_be_loaded_again(subject: Subject) -> None:
    """`load` and `unload` may be called twice, and a job runs after an engine was unloaded and loaded again."""
    other = subject.load()
    subject.load_again(other)
    other.warm_up()
    other.unload()
    other.unload()
    subject.load_again(other)
    try:
        require(
            run(other, subject.jobs.second).blocks, "the second job made no block after the engine was loaded again"
        )
    finally:
        other.unload()
