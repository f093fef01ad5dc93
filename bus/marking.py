"""Policies by which audio is marked as synthetic. Imports nothing of ours."""

from typing import Final, Literal, get_args

#: `tag`: a comment in the container, where the format has one. `inaudible`: a watermark in the audio, and the tag.
#: `signed`: reserved.
Marking = Literal["none", "tag", "inaudible", "signed"]
MARKINGS: Final[tuple[Marking, ...]] = get_args(Marking)
DEFAULT_MARKING: Final = "tag"
WHY_NOT_SIGNED: Final = (
    "`signed` is not possible: C2PA needs a signer with a certificate of yours, and this version has no place for one"
)
