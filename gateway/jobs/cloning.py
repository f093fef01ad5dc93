"""Which model speaks with an uploaded voice, and the clip that its jobs have. Pure."""

from collections.abc import Sequence

import msgspec

from bus import wire
from bus.blobs.uploaded import UploadedVoice
from bus.errors import Invalid
from bus.fleet.messages import ModelCard
from bus.voices import REFERENCE, REFERENCE_TEXT


def with_clip(
    job: wire.Job, voice: UploadedVoice, named: ModelCard, members: Sequence[ModelCard]
) -> tuple[wire.Job, ModelCard]:
    """`job` with the clip of its voice, by digest, and the card of the model that speaks with it.

    `named`: of the model that the job names. `members`: of its family, best first. Raises Invalid if none clones, for
    a script, and for a job that has a clip already.
    """
    if job.script:
        raise Invalid(f"voice: {voice.id!r} is an uploaded voice, which speaks an `input`, not a script", "voice")
    card = next((each for each in (named, *members) if REFERENCE in each.inputs), None)
    if card is None or (job.version and card is not named):
        raise Invalid(
            f"voice: {voice.name!r} is an uploaded voice, and {named.name} speaks with its own alone; models whose "
            "card has the input `reference` clone",
            "voice",
        )
    if REFERENCE in job.inputs:
        raise Invalid(f"inputs.{REFERENCE}: the voice {voice.name!r} has a clip of its own", f"inputs.{REFERENCE}")
    clip = {REFERENCE: voice.digest}
    if voice.text_digest and REFERENCE_TEXT in card.inputs:
        clip[REFERENCE_TEXT] = voice.text_digest
    return msgspec.structs.replace(job, inputs=job.inputs | clip), card
