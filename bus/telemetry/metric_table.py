"""Every metric of `/metrics`: its name, meaning and process. `docs/telemetry.md` prints this table.

Counters and histograms are derived from log events (`COUNTED`), whatever the log level, so an act is reported once.
Gauges are read at each scrape (`gateway/api/metrics.py`, `gpuworker/worker/metrics.py`). No label holds a tenant, a
job, a key or an address, and each label has few values.
"""

from typing import Final, Literal, NamedTuple

Process = Literal["gateway", "worker"]
Kind = Literal["counter", "gauge", "histogram"]

#: Upper bounds in seconds for events that take milliseconds, stops and takeovers included.
_QUICK_S: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: Upper bounds in seconds for the time in a queue.
_LONG_S: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
#: Upper bounds in seconds per second of audio: below 1 playback need not wait.
_RATIO: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0, 20.0)


class Metric(NamedTuple):
    """One metric of one kind of process."""

    kind: Kind
    #: The process that exports it.
    by: Process
    meaning: str
    labels: tuple[str, ...] = ()
    #: Upper bounds of a histogram; empty for other kinds.
    buckets: tuple[float, ...] = ()


class Counted(NamedTuple):
    """A log event that moves a metric, by one or by the value of a field; None in that field moves nothing."""

    event: str
    metric: str
    #: The field that holds the increment or the observed value; empty: 1.
    amount: str = ""
    #: Labels with a constant value. All other labels are fields of the event, by the same names.
    fixed: tuple[tuple[str, str], ...] = ()


def _counter(by: Process, meaning: str, *labels: str) -> Metric:
    return Metric("counter", by, meaning, labels)


def _gauge(by: Process, meaning: str, *labels: str) -> Metric:
    return Metric("gauge", by, meaning, labels)


def _histogram(by: Process, meaning: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric("histogram", by, meaning, labels, buckets)


METRICS: Final[dict[str, Metric]] = {
    # a gateway: counters and histograms
    "antiphon_jobs_accepted_total": _counter("gateway", "Jobs that this gateway stored on the bus.", "model", "lane"),
    "antiphon_refusals_total": _counter(
        "gateway",
        "Requests answered with an error, by the native API's status and the stable code; refusals inside a WebSocket "
        "or a batch are not counted.",
        "api",
        "status",
        "code",
    ),
    "antiphon_limits_reached_total": _counter(
        "gateway", "Refusals by a limit of the caller: requests_per_s, stored_bytes, ….", "limit"
    ),
    "antiphon_pool_refusals_total": _counter(
        "gateway", "Refusals of a part of a pool that tenants share, because a share or the pool was used up.", "pool"
    ),
    "antiphon_request_timeouts_total": _counter(
        "gateway", "Requests that did not arrive in time, by the part that was late: head, body.", "part"
    ),
    "antiphon_connections_refused_total": _counter(
        "gateway", "Connections closed as they came: their address had its share, or the gateway was full.", "reason"
    ),
    "antiphon_connections_evicted_total": _counter("gateway", "Idle connections closed to make room for new ones."),
    "antiphon_first_audio_seconds": _histogram(
        "gateway",
        "From a complete request to the first audio of the job it created, at this gateway, queueing included. HTTP "
        "and WebSockets; answers from the cache and from shared runs are not counted.",
        _QUICK_S,
        "model",
        "lane",
    ),
    "antiphon_cache_answers_total": _counter(
        "gateway", "Cacheable requests, by result: miss (a run of its own), shared (a run in progress), hit.", "result"
    ),
    "antiphon_streams_abandoned_total": _counter(
        "gateway", "Connections that closed before their response was complete."
    ),
    "antiphon_streams_cut_total": _counter(
        "gateway", "Response bodies cut short because their job failed or its log could not be read."
    ),
    "antiphon_takeovers_total": _counter("gateway", "Jobs of dead workers that this gateway offered again."),
    "antiphon_takeover_seconds": _histogram(
        "gateway", "From finding a worker dead to the next entry of a job taken from it.", _QUICK_S
    ),
    "antiphon_workers_died_total": _counter("gateway", "Workers that this gateway found dead.", "why"),
    "antiphon_logs_damaged_total": _counter("gateway", "Logs of which a damaged store has lost frames, once per log."),
    "antiphon_logs_purged_total": _counter("gateway", "Complete logs of ended jobs removed to make room in REPLIES."),
    "antiphon_webhooks_total": _counter(
        "gateway", "Webhook deliveries: sent, failed (retried), dead_lettered.", "outcome"
    ),
    "antiphon_faults_total": _counter("gateway", "Unexpected exceptions, bugs of ours, by log event.", "event"),
    # a gateway: gauges
    "antiphon_ready": _gauge("gateway", "1 if /readyz answers 200."),
    "antiphon_nats_up": _gauge("gateway", "1 while connected to NATS."),
    "antiphon_requests": _gauge("gateway", "Requests in progress, WebSockets included."),
    "antiphon_buffer_bytes": _gauge("gateway", "Memory that bodies, collected answers and encoders of downloads take."),
    "antiphon_buffer_limit_bytes": _gauge("gateway", "Limit of that memory."),
    "antiphon_connections": _gauge("gateway", "Open connections of clients, idle ones included."),
    "antiphon_connections_limit": _gauge("gateway", "Connections that this gateway serves at most."),
    "antiphon_listeners": _gauge("gateway", "Listeners of job logs at this gateway: running streams."),
    "antiphon_clock_skew_seconds": _gauge("gateway", "How far this machine's clock is ahead of the NATS server's."),
    "antiphon_clock_step_seconds": _gauge(
        "gateway",
        "How far the NATS server's clock is ahead of the time that deadlines are kept by: 0 unless it was set.",
    ),
    "antiphon_workers": _gauge("gateway", "Workers by state: starting, ready, draining, silent.", "state"),
    "antiphon_fleet_slots": _gauge("gateway", "Slots of all workers that are not silent."),
    "antiphon_fleet_slots_used": _gauge("gateway", "Slots of those workers that hold a job."),
    "antiphon_fleet_breakers": _gauge(
        "gateway", "Workers that are not silent, by breaker: closed, open, trial.", "state"
    ),
    "antiphon_queue_jobs": _gauge("gateway", "Queued jobs not yet delivered to a worker.", "model", "version", "lane"),
    "antiphon_queue_offered_jobs": _gauge(
        "gateway", "Queued jobs delivered to a worker and not acknowledged.", "model", "version", "lane"
    ),
    "antiphon_queue_eta_seconds": _gauge(
        "gateway",
        "Expected wait of a job queued now, by the starts of the last minute; absent if those are too few.",
        "model",
        "version",
        "lane",
    ),
    "antiphon_stream_bytes": _gauge("gateway", "Bytes stored in a stream of the bus.", "stream"),
    "antiphon_stream_limit_bytes": _gauge("gateway", "Limit of bytes of that stream.", "stream"),
    "antiphon_stream_messages": _gauge("gateway", "Messages in that stream; for `dead`: dead letters.", "stream"),
    "antiphon_admission_refusing": _gauge(
        "gateway", "1 while new jobs are refused (507) because this stream is above 85 % of its limit.", "stream"
    ),
    "antiphon_reserved_bytes": _gauge(
        "gateway",
        "Most audio of all live jobs whose bound is a thousandth of the store or more; shared up to 85 % of it.",
    ),
    # a worker: counters and histograms
    "antiphon_job_wait_seconds": _histogram(
        "worker", "From a job's acceptance to its first start, on any worker.", _LONG_S, "model", "lane"
    ),
    "antiphon_jobs_finished_total": _counter(
        "worker",
        "Jobs that left this worker: done, failed, cancelled, expired, handed_back, interrupted, fenced, "
        "bus_unreachable.",
        "model",
        "outcome",
    ),
    "antiphon_blocks_total": _counter("worker", "Stored blocks of those jobs.", "model"),
    "antiphon_audio_frames_total": _counter("worker", "Audio frames in those blocks.", "model"),
    "antiphon_audio_seconds_total": _counter("worker", "Seconds of audio in those blocks.", "model"),
    "antiphon_first_block_seconds": _histogram(
        "worker", "From a worker's claim of a job to its first stored block.", _QUICK_S, "model"
    ),
    "antiphon_real_time_factor": _histogram(
        "worker",
        "Per done job: seconds that it took here per second of audio made here, time in the device's schedule "
        "included.",
        _RATIO,
        "model",
    ),
    "antiphon_stop_seconds": _histogram(
        "worker",
        "From the moment this worker received the reason to stop a running job to its slot being free: cancelled, "
        "expired, no_listeners, revoked (another process holds the lease), handed_back, engine_lost.",
        _QUICK_S,
        "why",
    ),
    "antiphon_dead_letters_total": _counter("worker", "Messages of the job queue moved to the dead letters."),
    "antiphon_jobs_crashed_total": _counter("worker", "Jobs on which the worker's own code raised: bugs of ours."),
    "antiphon_fenced_appends_total": _counter("worker", "Appends refused because another worker holds the lease."),
    "antiphon_stalls_total": _counter("worker", "Jobs in which the engine made no progress for stall_s."),
    "antiphon_host_ends_total": _counter("worker", "Engine hosts that died, hung or were killed."),
    "antiphon_host_hangs_total": _counter("worker", "Engine hosts killed because one step took longer than stall_s."),
    "antiphon_quality_jobs_total": _counter(
        "worker",
        "Done jobs of models whose audio is measured: measured, late (after `done`), busy (no time), failed.",
        "model",
        "outcome",
    ),
    "antiphon_quality_flags_total": _counter(
        "worker", "Measures of those jobs that are beyond their limits: clipping, dropout, noise, ….", "model", "flag"
    ),
    "antiphon_breaker_openings_total": _counter("worker", "Times that the breaker opened."),
    "antiphon_quality_processor_seconds_total": _counter("worker", "Processor time that measuring audio took."),
    # a worker: gauges
    "antiphon_worker_state": _gauge("worker", "1 for the state it is in: starting, ready, draining.", "state"),
    "antiphon_breaker": _gauge("worker", "1 for the state of its breaker: closed, open, trial.", "state"),
    "antiphon_slots": _gauge("worker", "Jobs that may run at the same time."),
    "antiphon_slots_used": _gauge("worker", "Jobs that run."),
    "antiphon_jobs_waiting": _gauge(
        "worker",
        "Jobs that run and whose audio waits: `storage`, until REPLIES is below 95 %, or 90 % for one far ahead.",
        "why",
    ),
    "antiphon_model_loaded": _gauge("worker", "1 for a model that takes jobs here, 0 while it does not.", "model"),
    "antiphon_host_resident_bytes": _gauge("worker", "Main memory of the engine host; absent while there is none."),
    "antiphon_device_bytes": _gauge(
        "worker", "Device memory that the engine host holds; absent where no engine reports it, as on a CPU."
    ),
}

COUNTED: Final = (
    Counted("job.accepted", "antiphon_jobs_accepted_total"),
    Counted("http.refused", "antiphon_refusals_total", fixed=(("api", "http"),)),
    Counted("submit.refused", "antiphon_refusals_total", fixed=(("api", "nats"),)),
    Counted("limit.reached", "antiphon_limits_reached_total"),
    Counted("pool.refused", "antiphon_pool_refusals_total"),
    Counted("request.timed_out", "antiphon_request_timeouts_total"),
    Counted("connection.refused", "antiphon_connections_refused_total"),
    Counted("connection.evicted", "antiphon_connections_evicted_total"),
    Counted("audio.started", "antiphon_first_audio_seconds", "after_s"),
    Counted("stream.abandoned", "antiphon_streams_abandoned_total"),
    Counted("stream.cut", "antiphon_streams_cut_total"),
    Counted("takeover.started", "antiphon_takeovers_total"),
    Counted("takeover.done", "antiphon_takeover_seconds", "seconds"),
    Counted("worker.died", "antiphon_workers_died_total"),
    Counted("retention.purged", "antiphon_logs_purged_total", "logs"),
    Counted("log.damaged", "antiphon_logs_damaged_total"),
    *(
        Counted(f"webhook.{outcome}", "antiphon_webhooks_total", fixed=(("outcome", outcome),))
        for outcome in ("sent", "failed", "dead_lettered")
    ),
    *(
        Counted(event, "antiphon_faults_total", fixed=(("event", event),))
        for event in ("http.failed", "submit.failed", "bus.callback_failed", "webhook.crashed", "job.view_failed")
    ),
    Counted("job.started", "antiphon_job_wait_seconds", "waited_s"),
    Counted("job.finished", "antiphon_jobs_finished_total"),
    Counted("job.finished", "antiphon_blocks_total", "blocks"),
    Counted("job.finished", "antiphon_audio_frames_total", "frames"),
    Counted("job.finished", "antiphon_audio_seconds_total", "audio_s"),
    Counted("job.finished", "antiphon_first_block_seconds", "first_block_s"),
    Counted("job.finished", "antiphon_real_time_factor", "real_time_factor"),
    Counted("job.stopped", "antiphon_stop_seconds", "after_s"),
    Counted("job.dead_lettered", "antiphon_dead_letters_total"),
    Counted("job.crashed", "antiphon_jobs_crashed_total"),
    Counted("job.fenced", "antiphon_fenced_appends_total"),
    Counted("job.stalled", "antiphon_stalls_total"),
    Counted("host.ended", "antiphon_host_ends_total"),
    Counted("host.hung", "antiphon_host_hangs_total"),
    Counted("quality.measured", "antiphon_quality_jobs_total"),
    Counted("quality.flagged", "antiphon_quality_flags_total"),
    Counted("breaker.opened", "antiphon_breaker_openings_total"),
)
