"""The checks of a job's script. Pure; part of `bus.jobs.validate`, which checks the rest of the job."""

from collections.abc import Callable

from bus import wire
from bus.errors import Invalid
from bus.params import short
from bus.script import MAX_SPEAKER_CHARS, MAX_TURNS, joined


def check_script(job: wire.Job, check_text: Callable[[str, str], None]) -> None:
    """Check all limits of a script that depend on the job alone. Raises Invalid, as `check_text(text, path)` does."""
    if job.input:
        raise Invalid(f"script: the job has an input too ({short(repr(job.input))}); give one of them", "script")
    if len(job.script) > MAX_TURNS:
        raise Invalid(f"script: has {len(job.script)} turns, the limit is {MAX_TURNS}", "script")
    for index, turn in enumerate(job.script):
        check_text(turn.text, f"script[{index}].text")
        if len(turn.speaker) > MAX_SPEAKER_CHARS:
            path = f"script[{index}].speaker"
            raise Invalid(
                f"{path}: has {len(turn.speaker)} characters, the limit is {MAX_SPEAKER_CHARS}; it begins "
                f"{short(turn.speaker)!r}",
                path,
            )


def check_turns(job: wire.Job, max_chars: int, *, takes_scripts: bool) -> None:
    """Raise Invalid for a script that is longer than its model takes, or whose model takes none."""
    if not takes_scripts:
        raise Invalid(f"script: {short(job.model)!r} takes no script, only an input", "script")
    num_chars = len(joined(job.script))
    if num_chars > max_chars:
        raise Invalid(f"script: has {num_chars} characters in all, the limit is {max_chars}", "script")
