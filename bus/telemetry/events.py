"""Every event that our processes log: its name, its meaning, its fields. `docs/telemetry.md` prints this table.

To log a new event, add a line here and run `make docs`. A test refuses a name or a field that is not in the table.
All events also carry `timestamp`, `level`, `process`, `module` and the bound context (`job`, `tenant`, …).
"""

from typing import NamedTuple


class Event(NamedTuple):
    """Meaning and fields of one log event."""

    meaning: str
    fields: tuple[str, ...] = ()


#: Fields that any event may carry.
COMMON = frozenset({"job", "tenant", "worker", "trace_id", "exc_info"})

EVENTS: dict[str, Event] = {
    # every process
    "library.logged": Event("A library wrote a line through Python's own logging.", ("message",)),
    "process.crashed": Event("An exception was not caught; the process ends.", ("exception",)),
    "process.stopping": Event("A signal requests the process to stop; a second one ends it at once.", ("signal",)),
    "process.started": Event("The process has read its settings and begins its work.", ("pid", "settings")),
    "process.stopped": Event("The process has finished all work and ends."),
    # the bus
    "bus.callback_failed": Event(
        "A callback raised on a message: a bug of ours. The connection goes on.", ("subject",)
    ),
    "nats.connect_failed": Event(
        "An attempt to connect at the start failed; the process tries again, unless it is refused.", ("url", "error")
    ),
    "nats.disconnected": Event("The connection to NATS broke; reconnecting."),
    "nats.error": Event("NATS or its library reported an error.", ("error",)),
    "nats.not_permitted": Event(
        "nats-server refuses this user the `act` (publish, subscription) on `subject`, in lower case. Once for each.",
        ("act", "subject"),
    ),
    "nats.reconnected": Event("The connection to NATS is back.", ("generation",)),
    "keys.loaded": Event("API keys were loaded, or reloaded after a change, from their KV bucket.", ("known", "seq")),
    "keys.load_failed": Event(
        "The API keys could not be read; the `known` ones stay in force. Retried.", ("error", "known")
    ),
    "keys.entry_invalid": Event("An entry of the key bucket is not a key and is ignored.", ("key", "error")),
    "routes.loaded": Event("Routes were loaded, or reloaded after a change, from their KV bucket.", ("known", "seq")),
    "routes.load_failed": Event(
        "The routes could not be read; the `known` ones stay in force. Retried.", ("error", "known")
    ),
    "routes.entry_invalid": Event(
        "An entry of the bucket of routes is not a route and is ignored.", ("route", "error")
    ),
    "clock.stepped": Event(
        "The clock of nats-server's machine was set; deadlines go on by the time before, and follow by 5 % at most.",
        ("step_s",),
    ),
    "clock.sync_failed": Event("The server's clock could not be read; the last offset stays in use.", ("error",)),
    "tokens.loaded": Event("A file of token keys changed and was loaded; `keys`: keys in it.", ("file", "keys")),
    "tokens.load_failed": Event(
        "A file of token keys changed and is not usable; its `keys` loaded before stay in force.",
        ("file", "keys", "error"),
    ),
    "tls.loaded": Event("The files of the certificate changed; new connections get the new one.", ("file",)),
    "tls.load_failed": Event(
        "The files of the certificate changed and are not usable; the one loaded before stays in force.",
        ("file", "error"),
    ),
    # blobs
    "blob.abandon_failed": Event(
        "The chunks of an upload that failed could not be removed; retention does it later.", ("upload", "error")
    ),
    "blob.cache_failed": Event("A worker could not store the files of a job; another one tries.", ("error",)),
    "blob.damaged": Event("The store has other bytes of a blob than its digest says.", ("digest", "error")),
    "blob.purged": Event(
        "Blobs whose time was over were removed, and chunks of `uploads` that ended without a blob.",
        ("blobs", "uploads"),
    ),
    "blob.retention_failed": Event("Blobs could not be looked at; retried.", ("error",)),
    "blob.stored": Event("A blob was put; `is_new`: its tenant had no such one.", ("digest", "bytes", "is_new")),
    "voice.deleted": Event("A tenant's voice was erased.", ("voice", "digest")),
    "voice.uploaded": Event("A tenant uploaded a voice, or replaced its clip.", ("voice", "digest", "key")),
    "voices.decoder_died": Event("The process that decoded a clip was ended by a limit.", ("status", "bytes")),
    "voices.changed": Event("The installed voices of a worker's models have changed.", ("listed",)),
    "voices.entry_invalid": Event("An entry of the bucket of voices is none and is ignored.", ("subject", "error")),
    "voices.load_failed": Event("The installed voices could not be read; the known ones stay. Retried.", ("error",)),
    # pulling, claiming, ending
    "pull.heartbeat_missed": Event("Heartbeats of a consumer stopped; its pulls are sent again.", ("consumers",)),
    "pull.ended": Event("A long pull ended early: its consumer moved or was deleted.", ("consumer", "status")),
    "pull.malformed": Event("The pull inbox received a message that no consumer delivered.", ("error",)),
    "pull.timed_out": Event("An immediate pull got no reply.", ("consumer", "waited_s")),
    "pull.declare_failed": Event("A worker could not declare its consumers; retried.", ("error",)),
    "job.adopted": Event("A redelivery of a job that runs here replaced the delivery it held.", ("delivered",)),
    "job.audio_purged": Event(
        "REPLIES was full: `entries` of a job that is being ended as `ending` were purged to make room for its end.",
        ("entries", "ending"),
    ),
    "job.crashed": Event(
        "The worker's own code raised on a job: a bug of ours. The job fails and goes to the dead letters; the worker "
        "goes on.",
        ("error", "traceback"),
    ),
    "job.dead_lettered": Event("A message that can never run was moved to the dead letters.", ("reason",)),
    "job.bus_unreachable": Event(
        "No append to the job's log succeeded for too long; the worker dropped the job.", ("error",)
    ),
    "job.chain_broken": Event(
        "A growing checkpoint is gone, or could not be read in time: the job goes on from the one that does not grow.",
        ("entries",),
    ),
    "job.chain_full": Event(
        "The growing checkpoints of a job have reached their limit: no more are stored before one that does not grow.",
        ("frame",),
    ),
    "job.checkpoint_gone": Event(
        "The checkpoint that a log names is gone: the job's engine starts without one.",
        ("seq",),
    ),
    "job.contended": Event(
        "Other processes took the job's lease at each of several tries to take it; this worker gave up."
    ),
    "job.end_failed": Event("Ending a job failed; the next process that reads its state ends it.", ("error",)),
    "job.fenced": Event("An append was refused because another worker holds the lease."),
    "job.finished": Event(
        "A job left this worker. `outcome`: the terminal kind, handed_back, interrupted, fenced or "
        "bus_unreachable. Counts cover this attempt; `real_time_factor` is `took_s` / `audio_s` of a job that is done.",
        (
            *("outcome", "attempt", "model", "blocks", "frames", "audio_s", "took_s", "first_block_s"),
            "real_time_factor",
        ),
    ),
    "job.lease_read_failed": Event(
        "A message announced that a lease was taken, and reading the lease failed.", ("error",)
    ),
    "job.abandoned": Event("The last listener left and the job was ended.", ("ended",)),
    "job.abandon_failed": Event(
        "The last listener left and ending the job failed; its worker tries as well.", ("error",)
    ),
    "job.listeners_unknown": Event("Whether a job has listeners could not be determined.", ("error",)),
    "job.stalled": Event("The engine made no progress in a job for stall_s.", ("stall_s",)),
    "job.stale": Event("A delivery older than one already seen of the same job was ignored.", ("delivered",)),
    "job.started": Event(
        "A job runs here, from `frame` on. `waited_s`: since it was accepted; absent if it ran before.",
        ("model", "lane", "attempt", "frame", "waited_s"),
    ),
    "job.stopped": Event(
        "A running job was stopped, `after_s` after this worker received the reason; `why`: cancelled, expired, "
        "no_listeners, revoked, handed_back, engine_lost.",
        ("why", "after_s"),
    ),
    "job.waiting": Event(
        "A job's audio has been waiting for 1 s, for room in REPLIES, which is at `level`; its lease says so.",
        ("waiting_for", "level"),
    ),
    "job.waiting_not_shown": Event("REPLIES has no room for a lease that shows that its job waits.", ("error",)),
    "job.resumed": Event("A job that waited goes on.", ("waited_s",)),
    "storage.unknown": Event("The bytes stored in REPLIES could not be read; retried.", ("error",)),
    "job.duplicate_removed": Event("A second queue message of the same job was removed.", ("queue_seq",)),
    "job.claim_failed": Event("A delivery could not be claimed; it will be redelivered.", ("error",)),
    "job.no_listeners": Event("A job has no listeners; it is ended unless one returns within a grace period."),
    "quality.failed": Event("Our own code raised as it measured a job's audio: a bug of ours.", ("error",)),
    "quality.flagged": Event(
        "A measure of a job's audio is beyond its limit. Once for each such measure.", ("model", "flag")
    ),
    "quality.measured": Event(
        "The audio of a job that is done was measured. `outcome`: measured; late, after `done` was written; busy, "
        "no time for it; failed. `flags`: measures beyond their limits; `quality`: the others, as in `done.quality`.",
        ("model", "outcome", "flags", "quality"),
    ),
    "retention.failed": Event("Checking or purging a stream failed; retried at the next interval.", ("error",)),
    "retention.filling": Event(
        "REPLIES is above 60 % of its limit; above 70 % ended logs are purged.", ("stream", "level")
    ),
    "retention.purged": Event(
        "Complete logs of ended jobs were purged: because of their age, or of tenants whose ended logs take most room.",
        ("stream", "logs", "level"),
    ),
    # the worker and its engine host
    "metrics.ready": Event("The worker serves its metrics at `url`.", ("url",)),
    "breaker.opened": Event(
        "The engine failed max_fails times within fail_timeout_s; this worker takes no job for fail_timeout_s.",
        ("max_fails", "fail_timeout_s"),
    ),
    "breaker.trial": Event("fail_timeout_s has passed: this worker takes one job as a trial."),
    "breaker.closed": Event("The trial job succeeded: this worker takes jobs again."),
    "engine.out_of_memory": Event(
        "A batch did not fit into the device's memory; it is split in two halves.", ("model", "batch", "error")
    ),
    "engine.close_failed": Event("A model raised while its generator was closed.", ("model",)),
    "engine.memory_unknown": Event(
        "An engine raised when it had to report its device memory; its memory is no longer read.", ("engine",)
    ),
    "engine.failed": Event("A model raised; the job has failed.", ("error", "traceback")),
    "marks.dropped": Event(
        "`marks` marks of a block were dropped: outside its audio or the input, or too many in one frame.",
        ("marks", "frame"),
    ),
    "host.started": Event("An engine host was started.", ("pid", "models")),
    "host.ended": Event("An engine host died or was killed; `jobs` jobs were running in it.", ("pid", "code", "jobs")),
    "host.stopped": Event("An engine host ended as the worker requested.", ("pid",)),
    "host.hung": Event(
        "An engine host has been in one step for stall_s and is killed.", ("pid", "stall_s", "traceback")
    ),
    "host.slow": Event("Models are still loading after host_start_s.", ("waited_s", "loaded")),
    "model.loaded": Event("A model was loaded and takes jobs.", ("model", "took_s")),
    "model.unready": Event(
        "A model takes no job now, because the server that it depends on is down or still loading; `model.loaded` "
        "follows.",
        ("model", "reason"),
    ),
    "model.unavailable": Event("A model cannot be served here.", ("model", "reason")),
    "worker.drain_requested": Event("A request to drain arrived over the bus."),
    "worker.draining": Event("Intake has stopped; running jobs get drain_s.", ("jobs", "drain_s")),
    "worker.drain_timeout": Event("A job was not handed back in time.", ("task", "waited_s")),
    "worker.ready": Event("All models have loaded or failed to.", ("models", "after_s")),
    # the fleet, as a gateway sees it
    "fleet.malformed": Event("A message on a heartbeat subject is not a heartbeat.", ("subject", "error")),
    "fleet.describe_failed": Event("A worker did not describe its models; retried.", ("error",)),
    "fleet.ping_failed": Event("A worker did not answer one ping; more are sent before it counts as dead.", ("error",)),
    "takeover.started": Event("The lease of a dead worker's job was revoked; the job is offered again."),
    "takeover.done": Event(
        "The first entry after a takeover is in the log: `seconds` after the worker was found dead, `since_pong_s` "
        "after its last pong.",
        ("entry", "by", "seconds", "since_pong_s"),
    ),
    "takeover.not_observed": Event(
        "No entry followed a takeover within `waited_s`: no worker was free, or the job waits.", ("waited_s",)
    ),
    "takeover.failed": Event(
        "The lease of a dead worker's job could not be revoked; it is redelivered after ack_wait.", ("error",)
    ),
    "worker.died": Event("A worker is dead; the leases of its jobs are revoked.", ("boot", "held", "why")),
    "worker.left": Event("A draining worker has gone and held no job.", ("boot",)),
    "worker.seen": Event("The first heartbeat of a worker arrived.", ("boot", "models")),
    # a gateway
    "gateway.ready": Event("The gateway accepts connections.", ("url", "port")),
    "gateway.draining": Event("No new connections; running requests get drain_s.", ("requests", "drain_s")),
    "gateway.drain_timeout": Event(
        "`requests` requests still run after drain_s and are aborted.", ("requests", "drain_s")
    ),
    "gateway.stopped": Event("The gateway has answered or aborted every request."),
    "usage.malformed": Event("A message between gateways about limits could not be decoded.", ("subject", "error")),
    "usage.gateway_joined": Event("Another gateway was found; usage is shared with it.", ("gateway", "gateways")),
    "usage.gateway_left": Event(
        "A gateway is gone; `why`: `stopped`, or `silent` for too long.", ("gateway", "gateways", "why")
    ),
    "limit.reached": Event(
        "A request was refused by a limit of its key or address.", ("limit", "account", "allowed", "retry_after_s")
    ),
    "pool.refused": Event(
        "A request was refused its part of a pool that tenants share: `asked` beside the `held` of `owner`, who may "
        "have `allowed` at present. The level is warning once in 10 s for each owner, otherwise debug.",
        ("pool", "owner", "asked", "held", "allowed", "is_own", "capacity"),
    ),
    "limit.charged": Event(
        "The audio of an ended job was charged; `total_ms`: charged today.", ("account", "ms", "total_ms")
    ),
    "limit.charge_failed": Event(
        "Ended jobs could not be charged; retried, or dropped if `error` says that it is permanent.", ("jobs", "error")
    ),
    "limit.refresh_failed": Event(
        "Counted jobs could not be compared with the queue; retried at the next interval.", ("error",)
    ),
    "limit.message_unreadable": Event("A queue message is not a job and counts against no limit.", ("seq",)),
    "limit.queue_too_long": Event(
        "A tenant has more queued jobs than a starting gateway reads; jobs beyond `pages` pages are not counted.",
        ("pages",),
    ),
    "http.refused": Event(
        "A request was answered with an error. `status`: that of the native API; other APIs may have another for it.",
        ("status", "code", "path", "request"),
    ),
    "http.failed": Event(
        "A handler raised an unexpected exception: a bug of ours.", ("method", "path", "request", "exception")
    ),
    "connection.refused": Event(
        "A connection was closed as it came; `reason`: `address` (its share is used up), `full`. At most one line a "
        "second; `omitted`: those before it.",
        ("reason", "address", "open", "omitted"),
    ),
    "connection.evicted": Event(
        "A connection without a request was closed to make room for a new one. At most one line a second.",
        ("open", "omitted"),
    ),
    "listener.paused": Event(
        "No connection could be accepted, as the process has no descriptor left; it goes on in a moment.",
        ("error", "open"),
    ),
    "request.timed_out": Event(
        "A client took too long to send the `part` (head, body) of a request; its connection was closed. At most one "
        "line a second; `omitted`: those before it.",
        ("part", "waited_s", "omitted"),
    ),
    "pacing.began": Event(
        "The event loop is late and has much to do, and callers with more than an equal part of the requests wait.",
        ("late_s", "occupied_part"),
    ),
    "job.accepted": Event("This gateway stored a job on the bus.", ("model", "lane")),
    "audio.started": Event(
        "The first audio of a job arrived, `after_s` after the request that created the job.",
        ("model", "lane", "after_s"),
    ),
    "metrics.read_failed": Event("A gauge could not be read from the bus; /metrics omits it.", ("error",)),
    "stream.cut": Event("A response body was cut short: its job failed, or its log could not be read.", ("error",)),
    "stream.stalled": Event(
        "A client read nothing for `stalled_reader_s` while data was pending; its connection was reset.",
        ("waited_s", "waiting_bytes"),
    ),
    "stream.abandoned": Event("A connection closed before its response was complete.", ("error",)),
    "submit.ready": Event("The NATS API accepts requests.", ("subject",)),
    "submit.refused": Event("A request over NATS was answered with an error.", ("subject", "status", "code")),
    "submit.failed": Event("A request over NATS raised an unexpected exception: a bug of ours.", ("subject",)),
    "submit.abandoned": Event("A caller over NATS left before its response was complete.", ("subject",)),
    "submit.reply_refused": Event(
        "A request over NATS has no reply subject, or one that may not be used: it must begin with `required`.",
        ("subject", "reply", "required"),
    ),
    "job.cancelled": Event("A job was cancelled over the bus.", ("ended",)),
    "cancel.failed": Event("A request to cancel a job failed.", ("subject", "error")),
    "job.expired": Event("A job was past its deadline and was ended.", ("ended",)),
    "job.expire_failed": Event("A job is past its deadline and could not be ended.", ("error",)),
    "job.lost": Event("The store has lost the job's message in the queue, or its end; the job was ended.", ("ended",)),
    "log.went_back": Event(
        "The store has lost entries that a listener had: nats-server's machine lost power. The log is read again.",
        ("read_seq",),
    ),
    "log.damaged": Event(
        "A damaged store has lost frames of a job's audio; later damage of the same log is not logged again.",
        ("first_frame", "stop_frame"),
    ),
    "log.unreadable": Event("The birth of a log does not decode; the job is skipped.", ("subject", "error")),
    "queue.skipped": Event(
        "A damaged JOBS would have assigned sequences again that logs refer to; they are skipped.",
        ("stream", "last_seq", "next_seq"),
    ),
    "job.view_failed": Event("A job of a list could not be shown: a bug of ours. Its row has the error."),
    "queue.position_unknown": Event("A job's position in the queue could not be read.", ("error",)),
    "webhook.crashed": Event(
        "Delivering webhooks of a job raised an unexpected exception: a bug of ours. Retried.", ("tries", "again_in_s")
    ),
    "webhook.dead_lettered": Event(
        "A webhook event was moved to the dead letters, under its id: too many failed tries, or no valid receiver. "
        "Without `event_type`: delivering the job's webhooks crashed too often.",
        ("event_type", "event_id", "error", "tries"),
    ),
    "webhook.failed": Event(
        "A webhook event was not delivered; retried.", ("event_type", "event_id", "error", "tries", "again_in_s")
    ),
    "webhook.log_gone": Event("A job with pending webhook events has no log any more.", ("error",)),
    "webhook.sent": Event("A webhook event was delivered.", ("event_type", "event_id")),
    "webhook.poll_failed": Event("The webhook queue could not be read; retried.", ("error",)),
    "webhook.malformed": Event("A message in the webhook queue is malformed and was dropped.", ("subject", "error")),
    "webhook.deferred": Event("A job's pending webhook events could not be read from the bus; retried.", ("error",)),
    # antiphon up
    "model.missing": Event("A default model that this machine cannot load is left out.", ("model", "reason", "fix")),
    "child.started": Event("`up` has started a process.", ("child", "pid")),
    "child.exited": Event(
        "A process of `up` ended without a request to; it is started again.",
        ("child", "pid", "code", "error", "again_in_s"),
    ),
    "child.stopped": Event("A process of `up` ended as requested.", ("child", "pid", "code")),
    "child.killed": Event(
        "A process of `up` did not end within its time limit and was killed.", ("child", "pid", "after_s")
    ),
    "disk.full": Event(
        "A nats-server could not write; it is restarted once there is enough room.",
        ("child", "error", "free_bytes", "wanted_bytes"),
    ),
    "disk.has_room": Event("There is enough room again: the nats-server is restarted.", ("child", "free_bytes")),
    "store.moved_aside": Event(
        "`up --recover` moved a stream that nats-server could not recover out of the store; `lost` was in it.",
        ("stream", "reason", "folder", "lost"),
    ),
    "store.unchecked": Event("`up` could not look for jobs that a damaged store has lost.", ("error",)),
    "stack.ready": Event("The one-machine stack is ready for requests.", ("http", "nats", "after_s")),
    "stack.waiting": Event(
        "The stack is not ready yet; `waiting_for` names the missing part.", ("waiting_for", "after_s")
    ),
    "stack.stopping": Event("`up` begins to stop its processes, workers first."),
}
