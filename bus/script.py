"""A script: turns that several voices speak one after the other, in one job.

Imports nothing of ours, because engines import this module.
"""

import itertools
from collections.abc import Sequence
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

#: Most turns of one script.
MAX_TURNS: Final = 1000
#: Longest name of a speaker.
MAX_SPEAKER_CHARS: Final = 100
#: Silence between two turns, at any speed.
PAUSE_S: Final = 0.3
#: Stands between the texts of two turns wherever a script is one text.
JOINT: Final = "\n"


class Turn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A text, and who speaks it."""

    text: Annotated[str, Meta(description="As the `input` of a job.", extra_json_schema={"minLength": 1})]
    speaker: Annotated[
        str,
        Meta(
            description="Turns of one speaker have one voice; empty: the job's voice.",
            extra_json_schema={"maxLength": MAX_SPEAKER_CHARS},
        ),
    ] = ""
    voice: Annotated[str, Meta(description="A voice of the model; empty: its speaker's.")] = ""


class Voice(Protocol):
    """A voice of a model."""

    @property
    def id(self) -> str:
        """The value of a job's `voice`."""
        ...

    @property
    def language(self) -> str:
        """BCP 47 tag."""
        ...


def joined(script: Sequence[Turn]) -> str:
    """The texts as one: positions in a script count in it, in characters."""
    return JOINT.join(turn.text for turn in script)


def with_voices(script: Sequence[Turn], voice: str, voices: Sequence[Voice]) -> list[Turn]:
    """`script` with a voice for each turn. `voice`: the job's, or its model's default; `voices`: all of the model's.

    A turn without one gets the first voice that the script gives to its speaker, or `voice` without a speaker. Speakers
    who have none get one each, in order: `voice`, then others of its language that the script does not name, then these
    again. Equal arguments give equal results.
    """
    own: dict[str, str] = {}
    for turn in script:
        if turn.voice:
            own.setdefault(turn.speaker, turn.voice)
    own[""] = voice
    named = {turn.voice for turn in script}
    free = [each for each in (voice, *_of_language(voice, voices)) if each not in named] or [voice]
    further = itertools.cycle(dict.fromkeys(free))
    for turn in script:
        if turn.speaker not in own:
            own[turn.speaker] = next(further)
    return [Turn(text=turn.text, speaker=turn.speaker, voice=turn.voice or own[turn.speaker]) for turn in script]


def _of_language(voice: str, voices: Sequence[Voice]) -> list[str]:
    """Ids of the voices that speak the language of `voice`, whatever the region, in order."""
    base = voice.partition("+")[0]
    language = _language(next((each.language for each in voices if each.id in {voice, base}), base))
    return [each.id for each in voices if _language(each.language) == language]


def _language(tag: str) -> str:
    return tag.replace("_", "-").partition("-")[0].casefold()
