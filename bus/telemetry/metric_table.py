"""Every metric of `/metrics`: its name, what it means, who shows it. `docs/telemetry.md` prints it, a test holds it.

One act, one place: what is marked by a log event is counted from that event (`COUNTED`), whatever the log level. What
is a state rather than an act is looked at when somebody asks (`gateway/api/metrics.py`,
`gpuworker/worker/metrics.py`). No label holds a tenant, a job, a key or an address, and the values of each are few.
"""

from typing import Final, Literal, NamedTuple

Process = Literal["gateway", "worker"]
Kind = Literal["counter", "gauge", "histogram"]

#: Upper bounds in seconds: of what is noticed in milliseconds, of a queue's or a stop's time, of whole jobs.
_QUICK_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LONG_S: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
#: Seconds per second: below 1 a listener need not wait.
_RATIO: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0, 20.0)


class Metric(NamedTuple):
    kind: Kind
    #: Who shows it.
    by: Process
    meaning: str
    labels: tuple[str, ...] = ()
    #: Of a histogram: upper bounds.
    buckets: tuple[float, ...] = ()


class Counted(NamedTuple):
    """A log event that moves a metric, by one or by what one of its fields says; None there moves nothing."""

    event: str
    metric: str
    #: The field that says by how much, or what is observed.
    amount: str = ""
    #: Values of labels that are no field of the event's. The other labels are fields, by the same names.
    fixed: tuple[tuple[str, str], ...] = ()


def _counter(by: Process, meaning: str, *labels: str) -> Metric:
    return Metric("counter", by, meaning, labels)


def _gauge(by: Process, meaning: str, *labels: str) -> Metric:
    return Metric("gauge", by, meaning, labels)


def _histogram(by: Process, meaning: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric("histogram", by, meaning, labels, buckets)


METRICS: Final[dict[str, Metric]] = {
    # a gateway: what it did
    "antiphon_jobs_accepted_total": _counter("gateway", "Jobs that this gateway put on the bus.", "model", "lane"),
    "antiphon_refusals_total": _counter(
        "gateway",
        "Requests answered with an error, by its status and its stable code; not what is refused within a WebSocket "
        "or a batch.",
        "door",
        "status",
        "code",
    ),
    "antiphon_limits_reached_total": _counter(
        "gateway", "Refusals for a limit of the caller's: requests_per_s, concurrent_jobs, audio_s_per_day.", "limit"
    ),
    "antiphon_first_audio_seconds": _histogram(
        "gateway",
        "From a complete request to the first sound of the job it made, at this gateway, waiting included. HTTP and "
        "WebSockets; answers from the cache and jobs joined later are left out.",
        _QUICK_S,
        "model",
        "lane",
    ),
    "antiphon_cache_answers_total": _counter(
        "gateway", "Answers that an equal request's run could give: miss (a run of its own), shared, hit.", "how"
    ),
    "antiphon_streams_left_total": _counter("gateway", "Clients that hung up before their answer was whole."),
    "antiphon_streams_cut_total": _counter("gateway", "Bodies cut short because their job failed or was lost."),
    "antiphon_takeovers_total": _counter("gateway", "Dead workers' jobs that this gateway took away and offered anew."),
    "antiphon_takeover_seconds": _histogram(
        "gateway", "From a worker's death being found to the next entry of a job taken from it.", _QUICK_S
    ),
    "antiphon_workers_died_total": _counter("gateway", "Workers that this gateway found dead.", "why"),
    "antiphon_logs_purged_total": _counter("gateway", "Whole ended logs removed to make room in REPLIES."),
    "antiphon_webhooks_total": _counter("gateway", "Tries to tell of a job: sent, failed, buried.", "outcome"),
    "antiphon_faults_total": _counter(
        "gateway", "What nobody foresaw: bugs of ours, by the log event that tells of them.", "event"
    ),
    # a gateway: how things stand
    "antiphon_ready": _gauge("gateway", "1 where /readyz answers 200."),
    "antiphon_nats_up": _gauge("gateway", "1 while connected to NATS."),
    "antiphon_requests": _gauge("gateway", "Requests in progress, WebSockets among them."),
    "antiphon_listeners": _gauge("gateway", "Running streams: ears at a job's log, at this gateway."),
    "antiphon_clock_skew_seconds": _gauge("gateway", "How far this machine's clock is ahead of the bus's."),
    "antiphon_workers": _gauge("gateway", "Workers by state: starting, ready, draining, silent.", "state"),
    "antiphon_fleet_slots": _gauge("gateway", "Slots of all workers that are not silent."),
    "antiphon_fleet_slots_used": _gauge("gateway", "… and how many of them hold a job."),
    "antiphon_fleet_breakers": _gauge(
        "gateway", "Workers that are not silent, by breaker: closed, open, trial.", "state"
    ),
    "antiphon_queue_jobs": _gauge("gateway", "Jobs that wait, offered to no worker yet.", "model", "version", "lane"),
    "antiphon_queue_offered_jobs": _gauge(
        "gateway", "Jobs in a worker's hands, or on their way there.", "model", "version", "lane"
    ),
    "antiphon_queue_eta_seconds": _gauge(
        "gateway",
        "What a job queued now would wait, by the starts of the last minute; absent where those are too few to tell.",
        "model",
        "version",
        "lane",
    ),
    "antiphon_stream_bytes": _gauge("gateway", "Bytes stored in a stream of the bus.", "stream"),
    "antiphon_stream_limit_bytes": _gauge("gateway", "Bytes that it may hold.", "stream"),
    "antiphon_stream_messages": _gauge("gateway", "Messages in it; of `dead`: dead letters.", "stream"),
    "antiphon_admission_refusing": _gauge(
        "gateway", "1 while new jobs are refused (507) because this stream is above 85 % of its limit.", "stream"
    ),
    # a worker: what it did
    "antiphon_job_wait_seconds": _histogram(
        "worker", "From a job's acceptance to its first start, on any worker.", _LONG_S, "model", "lane"
    ),
    "antiphon_jobs_finished_total": _counter(
        "worker",
        "Jobs that left this worker: done, failed, cancelled, expired, handed_back, interrupted, fenced, let go.",
        "model",
        "outcome",
    ),
    "antiphon_blocks_total": _counter("worker", "Blocks of those jobs that were stored.", "model"),
    "antiphon_audio_frames_total": _counter("worker", "Frames in those blocks.", "model"),
    "antiphon_audio_seconds_total": _counter("worker", "Seconds of sound in those blocks.", "model"),
    "antiphon_first_block_seconds": _histogram(
        "worker", "From a worker's taking a job to its first block being stored.", _QUICK_S, "model"
    ),
    "antiphon_real_time_factor": _histogram(
        "worker",
        "Of each job done: seconds it took here per second of sound made here, waiting for its turn on the device "
        "included.",
        _RATIO,
        "model",
    ),
    "antiphon_stop_seconds": _histogram(
        "worker",
        "From this worker's learning that a running job must stop to its slot being free: cancelled, expired, left, "
        "taken (by another worker, or a gateway), handed_back, lost.",
        _QUICK_S,
        "why",
    ),
    "antiphon_fenced_appends_total": _counter("worker", "Appends refused because somebody else holds the lease."),
    "antiphon_stalls_total": _counter("worker", "Jobs in which the engine made no progress for stall_s."),
    "antiphon_host_ends_total": _counter("worker", "Engine hosts that died, hung or were killed."),
    "antiphon_host_hangs_total": _counter("worker", "Engine hosts killed because one step took longer than stall_s."),
    "antiphon_breaker_openings_total": _counter("worker", "How often the breaker opened."),
    # a worker: how things stand
    "antiphon_worker_state": _gauge("worker", "1 for the state it is in: starting, ready, draining.", "state"),
    "antiphon_breaker": _gauge("worker", "1 for the state of its breaker: closed, open, trial.", "state"),
    "antiphon_slots": _gauge("worker", "Jobs that may run at the same time."),
    "antiphon_slots_used": _gauge("worker", "Jobs that run."),
    "antiphon_model_loaded": _gauge("worker", "1 for a model that can be asked for here, 0 while it cannot.", "model"),
    "antiphon_host_resident_bytes": _gauge("worker", "Main memory of the engine host; absent while there is none."),
    "antiphon_device_bytes": _gauge(
        "worker", "Device memory that the engine host holds; absent where no engine of it can tell, as on a CPU."
    ),
}

COUNTED: Final = (
    Counted("job.accepted", "antiphon_jobs_accepted_total"),
    Counted("http.refused", "antiphon_refusals_total", fixed=(("door", "http"),)),
    Counted("submit.refused", "antiphon_refusals_total", fixed=(("door", "nats"),)),
    Counted("limit.reached", "antiphon_limits_reached_total"),
    Counted("sound.began", "antiphon_first_audio_seconds", "after_s"),
    Counted("stream.left", "antiphon_streams_left_total"),
    Counted("stream.cut", "antiphon_streams_cut_total"),
    Counted("takeover.started", "antiphon_takeovers_total"),
    Counted("takeover.done", "antiphon_takeover_seconds", "seconds"),
    Counted("worker.died", "antiphon_workers_died_total"),
    Counted("retention.purged", "antiphon_logs_purged_total", "logs"),
    *(
        Counted(f"webhook.{outcome}", "antiphon_webhooks_total", fixed=(("outcome", outcome),))
        for outcome in ("sent", "failed", "buried")
    ),
    *(
        Counted(event, "antiphon_faults_total", fixed=(("event", event),))
        for event in ("http.failed", "submit.failed", "bus.callback_failed", "webhook.broke")
    ),
    Counted("job.started", "antiphon_job_wait_seconds", "waited_s"),
    Counted("job.finished", "antiphon_jobs_finished_total"),
    Counted("job.finished", "antiphon_blocks_total", "blocks"),
    Counted("job.finished", "antiphon_audio_frames_total", "frames"),
    Counted("job.finished", "antiphon_audio_seconds_total", "audio_s"),
    Counted("job.finished", "antiphon_first_block_seconds", "first_block_s"),
    Counted("job.finished", "antiphon_real_time_factor", "real_time_factor"),
    Counted("job.stopped", "antiphon_stop_seconds", "after_s"),
    Counted("job.fenced", "antiphon_fenced_appends_total"),
    Counted("job.stalled", "antiphon_stalls_total"),
    Counted("host.ended", "antiphon_host_ends_total"),
    Counted("host.hangs", "antiphon_host_hangs_total"),
    Counted("breaker.opened", "antiphon_breaker_openings_total"),
)
