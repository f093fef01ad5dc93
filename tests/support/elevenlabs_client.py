"""What tests of the ElevenLabs doors ask with."""

from typing import Any

#: One of their voices.
GEORGE = "JBFqnCBsd6RMkjVDRZzb"
NATIVE = "pcm_24000"


def ours(**params: Any) -> Any:
    """Options of a call that send the engine's own `params` along."""
    return {"additional_body_parameters": {"params": params}}
