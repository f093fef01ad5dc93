"""The models of one engine host: loaded one after the other, each available as soon as it is ready.

A thread of their own loads them, so that a heavy import does not keep a small model from serving. All else is done by
the device's thread.
"""

import queue
import threading
import time
from typing import Final, NamedTuple

from gpuworker import pipe, registry, watermark
from gpuworker.engine import Engine, MemoryPolicy
from gpuworker.host.device_memory import DeviceMemory
from gpuworker.host.readiness import Readiness
from gpuworker.host_options import HostOptions
from gpuworker.pipe import Outbox
from gpuworker.registry import ServedModel
from gpuworker.watermark import Watermark

#: The loader cannot wake a `select`: while it works, the device's thread looks this often, in seconds.
POLL_S: Final = 0.02


class _Outcome(NamedTuple):
    """The end of one attempt to load a model: an engine, or the reason why there is none."""

    name: str
    engine: Engine | None
    reason: str = ""
    took_s: float = 0.0


class Models:
    """Loads the models that `options` name, and reports each to the worker as loaded or unavailable."""

    def __init__(self, options: HostOptions, outbox: Outbox, memory: DeviceMemory, readiness: Readiness) -> None:
        self._options = options
        self._readiness = readiness
        self._outbox = outbox
        self._memory = memory
        #: Engines of the loaded models, by name.
        self.engines: dict[str, Engine] = {}
        #: Of this installation; None without one, and until models are loaded.
        self.watermark: Watermark | None = None
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._num_pending = len(options.models)
        #: Whether the outcome of a model is still to be taken.
        self.is_loading = self._num_pending > 0

    def start(self) -> None:
        """Begin to load, in the background. The thread ends with the process."""
        threading.Thread(target=self._load_all, name="loader", daemon=True).start()

    def _load_all(self) -> None:
        options = self._options
        try:
            self.watermark = watermark.load()
        except Exception as error:  # noqa: BLE001  # foreign code; the cards say that audio can have its mark
            for name in options.models:
                self._outcomes.put(_Outcome(name, None, f"the watermark failed: {type(error).__name__}: {error}"))
            return
        for name in options.models:
            began = time.monotonic()
            try:
                served = ServedModel(name, options.engines.get(name, name), options.engine_options.get(name, {}))
                engine = registry.make_model(served, allow_faults=options.allow_faults)
                engine.load(self._options.device, MemoryPolicy())
                engine.warm_up()
            except Exception as error:  # noqa: BLE001  # an engine is foreign code: its failure costs this model alone
                self._outcomes.put(_Outcome(name, None, f"{type(error).__name__}: {error}"))
            else:
                self._outcomes.put(_Outcome(name, engine, took_s=time.monotonic() - began))

    def take_loaded(self) -> None:
        """Make the models available that were loaded since the last call, and report all outcomes."""
        while not self._outcomes.empty():
            name, engine, reason, took_s = self._outcomes.get()
            self._num_pending -= 1
            self.is_loading = self._num_pending > 0
            if engine is None:
                self._outbox.send(pipe.encode_control(0, pipe.Unavailable(name, reason)), urgent=True)
            else:
                self.engines[name] = engine
                self._readiness.add(name, engine, took_s)
                self._memory.add(engine, time.monotonic())
