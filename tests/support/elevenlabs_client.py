"""Arguments for requests to the ElevenLabs dialect, for tests."""

from typing import Any

#: A voice of ElevenLabs'.
GEORGE = "JBFqnCBsd6RMkjVDRZzb"
NATIVE = "pcm_24000"


def ours(**params: Any) -> Any:
    """Request options with `params` of the engine."""
    return {"additional_body_parameters": {"params": params}}
