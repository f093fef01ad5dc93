"""Sessions of onnxruntime, the same for every engine."""

from collections.abc import Mapping, Sequence
from typing import Any

from gpuworker.engine import OutOfMemory


def open_session(graph: bytes, device: str) -> Any:
    """Open a graph on `device`, as torch names it.

    One thread on a CPU: two take twice the processor time for no gain in speed; more workers do gain."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # The arena keeps the largest sentence's memory for ever.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    kind, _, number = device.partition(":")
    providers: list[Any] = ["CPUExecutionProvider"]
    if kind == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    return onnxruntime.InferenceSession(graph, options, providers=providers)


def run_session(session: Any, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
    """The values of `outputs`, all for None. Raises OutOfMemory."""
    try:
        found: list[Any] = session.run(outputs, dict(inputs))
    except Exception as error:
        if "Failed to allocate" in str(error) or "out of memory" in str(error).lower():
            raise OutOfMemory(str(error)) from error
        raise
    return found
