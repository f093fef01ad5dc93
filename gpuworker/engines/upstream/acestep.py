"""A job of music by ACE-Step 1.5's API: a task is released, its progress is queried, its file is fetched.

The API has no way to cancel a task: one that its job has left keeps its place until the server has ended it.
"""

import json
import threading
import time
from collections.abc import Generator
from typing import Any, Final, NamedTuple

import msgspec

from gpuworker.engine import AttemptFailed, Block, Done, EngineJob, Pause, Progress
from gpuworker.engines.upstream.audio import Shape
from gpuworker.engines.upstream.errors import BadAudio, Cut, fault, tidy
from gpuworker.engines.upstream.exchange import Request, fetch
from gpuworker.engines.upstream.options import UpstreamOptions
from gpuworker.engines.upstream.server import Server, Waits
from gpuworker.engines.upstream.sound import Sound, decoder_of
from gpuworker.engines.upstream.speech import SEED_MASK

#: Between two queries of a task: a twentieth of its age, within these.
_SOON_S: Final = 0.1
_LATE_S: Final = 2.0
_SUCCEEDED: Final = 1
_FAILED: Final = 2
#: Params of ours, as the API calls them. Others have the same name there.
_FIELDS: Final = {"seconds": "audio_duration", "key": "key_scale", "metre": "time_signature"}
#: A piece may be so much shorter than the request.
_LEAST: Final = 0.5


class TaskState(NamedTuple):
    """The state of a task, as the server reports it."""

    status: int
    #: From 0 to 1; None if the server does not say.
    progress: float | None = None
    stage: str = ""
    #: The path of the audio of a task that has succeeded.
    file: str = ""
    error: str = ""


class Music:
    """Makes jobs by one server."""

    def __init__(self, server: Server, options: UpstreamOptions, shape: Shape) -> None:
        self._server = server
        self._options = options
        self._shape = shape

    def events(self, job: EngineJob) -> Generator[Waits | Block | Done, None, None]:
        """The job from its first frame on. Closing it leaves the task to the server, and its place taken until then.

        Raises Rejected, AttemptFailed, UpstreamFailed.
        """
        yield from self._server.take_place()
        task = ""
        has_ended = True
        try:
            task = yield from self._release(job)
            has_ended = False
            file = yield from self._finished(job, task)
            has_ended = True
            yield from self._audio(job, file)
        except BadAudio as error:
            has_ended = True
            raise fault(job, f"{self._server.name}: {error}") from error
        except Cut as error:
            raise AttemptFailed(f"{self._server.name}: {error}", is_fault=False) from error
        finally:
            if has_ended:
                self._server.free_place()
            else:
                until = time.monotonic() + self._options.first_byte_s
                threading.Thread(target=self._outlast, args=(task, until), name="abandoned", daemon=True).start()
        yield Done({"api": self._options.api})

    def fields(self, job: EngineJob) -> dict[str, Any]:
        """The JSON of the task."""
        options = self._options
        params = {_FIELDS.get(name, name): value for name, value in job.params.items()}
        if "time_signature" in params:
            params["time_signature"] = str(params["time_signature"])
        fields = {**options.fields, **params, "prompt": job.input, "audio_format": "wav", "batch_size": 1}
        fields |= {"task_type": "text2music", "use_random_seed": False, "seed": job.seed & SEED_MASK}
        return fields | {"model": options.model}

    def _release(self, job: EngineJob) -> Generator[Waits, None, str]:
        """The id of a new task."""
        body = json.dumps(self.fields(job)).encode()
        answer = yield from self._server.get(
            job, self._server.request("POST", "/release_task", body, hops=job.hops + 1)
        )
        data = _data(answer)
        task = data.get("task_id") if isinstance(data, dict) else None
        if not isinstance(task, str) or not task:
            raise BadAudio(f"/release_task answers without a task_id: {tidy(answer[:500].decode(errors='replace'))}")
        return task

    def _finished(self, job: EngineJob, task: str) -> Generator[Waits, None, str]:
        """Follow the task to its end; the path of its audio."""
        began = time.monotonic()
        while True:
            age_s = time.monotonic() - began
            if age_s > self._options.first_byte_s:
                # ACE-Step reports a task that it does not know as queued, for ever.
                raise AttemptFailed(f"{self._server.name}: the task has not ended in {age_s:.0f} s")
            # A server that is gone takes its tasks with it: there is nothing to wait for.
            state = task_state((yield from self._server.get(job, self._query(task), is_patient=False)), task)
            if state.status == _FAILED:
                raise BadAudio(f"the task failed: {state.error or 'for no reason'}")
            if state.status == _SUCCEEDED:
                return state.file
            if state.progress is not None:
                yield Progress(state.stage or "generating", state.progress, 1.0)
            yield Pause(min(_LATE_S, max(_SOON_S, age_s / 20)))

    def _audio(self, job: EngineJob, file: str) -> Generator[Waits | Block, None, None]:
        reply = yield from self._server.open(job, self._server.request("GET", file))
        try:
            sound = Sound(decoder_of(reply.head, self._options, self._shape), self._shape)
            yield from sound.read(reply, self._options.first_byte_s, self._options.silence_s)
            sound.finish(_LEAST * float(job.params["seconds"]))
        finally:
            reply.close()

    def _query(self, task: str) -> Request:
        return self._server.request("POST", "/query_result", json.dumps({"task_id_list": [task]}).encode())

    def _outlast(self, task: str, until: float) -> None:
        """Free the place of a task that its job has left, once the task has ended. In a thread of its own."""
        server = self._server
        try:
            while time.monotonic() < until:
                status, answer = fetch(server.address, self._query(task), server.timeouts)
                if status != 200 or task_state(answer, task).status in {_SUCCEEDED, _FAILED}:
                    return
                time.sleep(_LATE_S / 4)
        except (Cut, BadAudio):
            return  # the server is gone, or lost the task
        finally:
            server.free_place()


def task_state(answer: bytes, task: str) -> TaskState:
    """The state of `task` in an answer of `/query_result`. Raises BadAudio for an answer that is none."""
    data = _data(answer)
    entries = data if isinstance(data, list) else []
    entry = next((each for each in entries if isinstance(each, dict) and each.get("task_id") == task), None)
    if entry is None:
        raise BadAudio(f"/query_result answers without the task: {tidy(answer[:500].decode(errors='replace'))}")
    result = entry.get("result")
    try:
        elements = msgspec.json.decode(result) if isinstance(result, str) and result else result
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadAudio(f"the result of the task is not JSON: {tidy(str(result)[:200])}") from error
    first = elements[0] if isinstance(elements, list) and elements and isinstance(elements[0], dict) else {}
    status, progress, file = entry.get("status"), first.get("progress"), first.get("file")
    if status == _SUCCEEDED and not (isinstance(file, str) and file.startswith("/") and file.isascii()):
        raise BadAudio(f"the task has no file of its own server: {tidy(str(file))!r}")
    return TaskState(
        status if status in {_SUCCEEDED, _FAILED} else 0,
        min(1.0, max(0.0, float(progress))) if isinstance(progress, int | float) else None,
        tidy(str(first.get("stage") or ""))[:60],
        str(file or ""),
        tidy(str(first.get("error") or entry.get("error") or entry.get("progress_text") or "")),
    )


def _data(answer: bytes) -> Any:
    """The content of ACE-Step's envelope. Raises BadAudio if it reports a failure, or is none."""
    try:
        envelope = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAudio(f"the answer is not JSON: {tidy(answer[:200].decode(errors='replace'))}") from error
    if not isinstance(envelope, dict) or "data" not in envelope:
        raise BadAudio(f"the answer has no data: {tidy(answer[:200].decode(errors='replace'))}")
    if envelope.get("code", 200) != 200:
        raise BadAudio(f"code {envelope['code']}: {tidy(str(envelope.get('error')))}")
    return envelope["data"]
