"""Every event that our processes log: its name, what it means, which fields it carries. `docs/telemetry.md` prints it.

To log something new, add a line here and run `make docs`. A test refuses a name or a field that is not in the table.
All events also carry `timestamp`, `level`, `process`, `module` and what is bound around them (`job`, `tenant`, …).
"""

from typing import NamedTuple


class Event(NamedTuple):
    meaning: str
    fields: tuple[str, ...] = ()


#: Fields that any event may carry.
COMMON = frozenset({"job", "tenant", "worker", "trace_id", "exc_info"})

EVENTS: dict[str, Event] = {
    # every process
    "library.logged": Event("A library wrote a line through Python's own logging.", ("message",)),
    "process.crashed": Event("An exception that nobody caught; the process ends.", ("exception",)),
    "process.stopping": Event("A signal asked the process to stop; a second one ends it at once.", ("signal",)),
    "process.started": Event("The process has read its settings and begins its work.", ("pid", "settings")),
    "process.stopped": Event("The process has finished everything and ends."),
    # the bus
    "bus.callback_failed": Event(
        "A callback raised on a message: a bug of ours, the connection goes on.", ("subject",)
    ),
    "nats.disconnected": Event("The connection to NATS broke; it is being made again."),
    "nats.error": Event("NATS or its library reported an error.", ("error",)),
    "nats.reconnected": Event("The connection to NATS is back.", ("generation",)),
    "keys.read": Event("The API keys were read from their bucket, or what is new of them.", ("known", "seq")),
    "keys.unread": Event("The API keys could not be read; those known go on counting.", ("error", "known")),
    "keys.unreadable": Event("An entry of the keys' bucket is no key and counts as none.", ("key", "error")),
    "clock.unlearnt": Event("The bus's clock could not be asked; what was learnt before goes on.", ("error",)),
    "tokens.read": Event("A file of keys for tokens has changed: so many keys of it count now.", ("file", "keys")),
    "tokens.unusable": Event(
        "A file of keys for tokens has changed and cannot be used; those known go on.", ("file", "keys", "error")
    ),
    # pulling, claiming, ending
    "pull.deaf": Event("A consumer's heartbeats stopped; its pulls are made anew.", ("consumers",)),
    "pull.ended": Event("A long pull ended early: its consumer moved or is gone.", ("consumer", "status")),
    "pull.malformed": Event("A message came to the pull inbox that no consumer delivered.", ("error",)),
    "pull.unanswered": Event("An immediate pull got no answer.", ("consumer", "waited_s")),
    "pull.undeclared": Event("A worker's queues could not be asked for; it asks again.", ("error",)),
    "job.adopted": Event("A redelivery of a job that runs here was adopted.", ("delivered",)),
    "job.buried": Event("A message that can never run went to the dead letters.", ("reason",)),
    "job.bus_lost": Event("The bus took no entry for too long; the job is let go.", ("error",)),
    "job.contended": Event("Others took this job's lease again and again."),
    "job.end_failed": Event("Ending a job failed; whoever looks next finishes it.", ("error",)),
    "job.fenced": Event("An append was refused: somebody else holds the lease."),
    "job.finished": Event(
        "A job left this worker; outcome: its end, handed_back, interrupted, fenced, let go. With what this attempt "
        "made, and of one done `took_s` by `audio_s`.",
        (
            *("outcome", "attempt", "model", "blocks", "frames", "audio_s", "took_s", "first_block_s"),
            "real_time_factor",
        ),
    ),
    "job.lease_unread": Event("Word came that a lease was taken, and it could not be read.", ("error",)),
    "job.left": Event("The last listener left and the job was ended.", ("ended",)),
    "job.left_unsettled": Event("The last listener left and ending the job failed; its worker asks too.", ("error",)),
    "job.listeners_unknown": Event("Nobody could be asked whether a job is listened to.", ("error",)),
    "job.stalled": Event("The engine made no progress in a job for stall_s.", ("stall_s",)),
    "job.stale": Event("A delivery came after a newer one of the same job; it is ignored.", ("delivered",)),
    "job.started": Event(
        "A job runs here from this frame on; `waited_s` since its acceptance, if it is begun for the first time.",
        ("model", "lane", "attempt", "frame", "waited_s"),
    ),
    "job.stopped": Event(
        "A running job was stopped, so many seconds after this worker learnt that it must; why: cancelled, expired, "
        "left, taken, handed_back, lost.",
        ("why", "after_s"),
    ),
    "job.surplus": Event("A second message of a job was removed.", ("queue_seq",)),
    "job.unclaimed": Event("A delivery could not be claimed; it comes again.", ("error",)),
    "job.unheard": Event("Nobody listens; the job waits for somebody to come back before it is ended."),
    "retention.failed": Event("Looking after the room in the streams failed; the next look tries again.", ("error",)),
    "retention.filling": Event("REPLIES fills up: above 70 % ended logs are purged.", ("stream", "level")),
    "retention.purged": Event("Whole ended logs were purged, oldest first.", ("stream", "logs", "level")),
    # the worker and its engine host
    "metrics.ready": Event("A worker's metrics can be read there.", ("url",)),
    "breaker.opened": Event(
        "The engine failed max_fails times within fail_timeout_s: for as long, this worker takes no job.",
        ("max_fails", "fail_timeout_s"),
    ),
    "breaker.trial": Event("The pause is over: this worker takes one job, to see whether it can."),
    "breaker.closed": Event("The trial job succeeded: this worker takes jobs again."),
    "engine.out_of_memory": Event(
        "A batch did not fit into the device's memory; its halves are tried.", ("model", "batch", "error")
    ),
    "engine.close_failed": Event("A model raised while its generator was closed.", ("model",)),
    "engine.unweighed": Event(
        "An engine raised when asked how much of the device it holds, and is asked no more.", ("engine",)
    ),
    "engine.broke": Event("A model raised; the job has failed.", ("error", "traceback")),
    "marks.dropped": Event(
        "So many marks of a block were left out: outside its sound or the input, or too many of one frame.",
        ("marks", "frame"),
    ),
    "host.started": Event("An engine host was started.", ("pid", "models")),
    "host.ended": Event("An engine host died or had to be killed, with so many jobs in it.", ("pid", "code", "jobs")),
    "host.left": Event("An engine host was told to end, and did.", ("pid",)),
    "host.hangs": Event(
        "An engine host has been in one step for stall_s and is killed.", ("pid", "stall_s", "traceback")
    ),
    "host.slow": Event("Models are still loading after host_start_s.", ("waited_s", "loaded")),
    "model.loaded": Event("A model can be asked for here.", ("model", "took_s")),
    "model.unavailable": Event("A model cannot be served here.", ("model", "reason")),
    "worker.asked_to_drain": Event("A request over the bus asked this worker to drain."),
    "worker.draining": Event("Intake has stopped; running jobs get drain_s.", ("jobs", "drain_s")),
    "worker.drain_late": Event("A job could not be handed back in time.", ("task", "waited_s")),
    "worker.ready": Event("All models have loaded or failed to.", ("models", "after_s")),
    # the fleet, as a gateway sees it
    "fleet.malformed": Event("A heartbeat was not one.", ("subject", "error")),
    "fleet.no_description": Event("A worker did not describe its models.", ("error",)),
    "fleet.no_pong": Event("A worker did not answer a ping: suspicion, no more.", ("error",)),
    "takeover.started": Event("A dead worker's job was taken from it and is offered again."),
    "takeover.done": Event(
        "Its next entry is in the log, so many seconds after its worker's death was found, and after its last pong.",
        ("entry", "by", "seconds", "since_pong_s"),
    ),
    "takeover.unseen": Event("No entry followed a takeover for so long: nobody was free, or it waits.", ("waited_s",)),
    "takeover.failed": Event("A dead worker's job could not be taken away; ack_wait does it.", ("error",)),
    "worker.died": Event("A worker is dead; its jobs are taken away.", ("boot", "held", "why")),
    "worker.left": Event("A worker that was draining has gone, with no job in its hands.", ("boot",)),
    "worker.seen": Event("A worker is there.", ("boot", "models")),
    # a gateway
    "gateway.ready": Event("The gateway accepts connections.", ("url", "port")),
    "gateway.draining": Event("No new connections; running requests get drain_s.", ("requests", "drain_s")),
    "gateway.impatient": Event("Requests still run after drain_s and are cut off.", ("requests", "drain_s")),
    "gateway.stopped": Event("The gateway has answered or cut off every request."),
    "usage.malformed": Event("A gateway's word about limits was none.", ("subject", "error")),
    "usage.met": Event("Another gateway is heard; limits are shared with it.", ("gateway", "gateways")),
    "usage.parted": Event("A gateway is heard no more; why: `stopped`, `silent`.", ("gateway", "gateways", "why")),
    "limit.reached": Event(
        "A request was refused for a limit of its key or address.", ("limit", "account", "allowed", "retry_after_s")
    ),
    "limit.charged": Event("An ended job's audio was charged; `total_ms`: of the day.", ("account", "ms", "total_ms")),
    "limit.uncharged": Event(
        "Ended jobs could not be charged yet, and it is tried again; or never can be, if the error says so.",
        ("jobs", "error"),
    ),
    "limit.unasked": Event("Whether counted jobs have ended could not be asked; the next look asks.", ("error",)),
    "limit.unread": Event("A message of the queue is no job and counts against no limit.", ("seq",)),
    "limit.queue_too_long": Event(
        "More jobs of a tenant are queued than a new gateway counts; limits see those of the first pages.", ("pages",)
    ),
    "http.refused": Event("A request was answered with an error.", ("status", "code", "path", "request")),
    "http.failed": Event(
        "A handler raised what nobody foresaw: a bug of ours.", ("method", "path", "request", "exception")
    ),
    "job.accepted": Event("A job was put on the bus here.", ("model", "lane")),
    "sound.began": Event(
        "The first sound of a job that a request made is here, so many seconds after that.",
        ("model", "lane", "after_s"),
    ),
    "metrics.unread": Event("How things stand could not be asked; /metrics goes without that.", ("error",)),
    "stream.cut": Event("A body was cut short because its job failed or could not be read on.", ("error",)),
    "stream.stalled": Event(
        "A client took nothing of what waits for it for `stalled_reader_s`; its connection was reset.",
        ("waited_s", "waiting_bytes"),
    ),
    "stream.left": Event("A client hung up, or was sent away, before its answer was whole.", ("error",)),
    "submit.ready": Event("The NATS door takes requests.", ("subject",)),
    "submit.refused": Event("A request over NATS was answered with an error.", ("subject", "status", "code")),
    "submit.failed": Event("A request over NATS met what nobody foresaw: a bug of ours.", ("subject",)),
    "submit.left": Event("A caller over NATS left before its answer was whole.", ("subject",)),
    "submit.unanswerable": Event("A request over NATS named no inbox that may be answered.", ("subject", "reply")),
    "job.cancelled": Event("A job was cancelled over the bus.", ("ended",)),
    "cancel.failed": Event("A request to cancel could not be fulfilled.", ("subject", "error")),
    "job.expired": Event("A job was found past its deadline and ended.", ("ended",)),
    "job.unexpired": Event("A job is past its deadline and could not be ended.", ("error",)),
    "queue.unknown": Event("A job's place in the queue could not be read.", ("error",)),
    "webhook.broke": Event(
        "Telling of a job met what nobody foresaw: a bug of ours. It is tried again.", ("tries", "again_in_s")
    ),
    "webhook.buried": Event(
        "An event was told in vain too often, or to nobody, or (no `told`) telling of a job broke too often: it lies "
        "in the dead letters, under its id.",
        ("told", "event_id", "error", "tries"),
    ),
    "webhook.failed": Event(
        "An event could not be told and will be tried again.", ("told", "event_id", "error", "tries", "again_in_s")
    ),
    "webhook.gone": Event("A job of which something was still to be told has no log (any more).", ("error",)),
    "webhook.sent": Event("An event was told.", ("told", "event_id")),
    "webhook.unread": Event("The queue of webhooks could not be asked; the next look asks again.", ("error",)),
    "webhook.unreadable": Event("A message in the queue of webhooks is none, and was dropped.", ("subject", "error")),
    "webhook.waits": Event("The bus could not be asked what is to be told of a job; later.", ("error",)),
    # antiphon up
    "model.missing": Event("A default model that this machine cannot load is left out.", ("model", "reason", "mend")),
    "child.started": Event("`up` has started a process.", ("child", "pid")),
    "child.exited": Event(
        "A process of `up` ended although nobody asked it to.", ("child", "pid", "code", "error", "again_in_s")
    ),
    "child.stopped": Event("A process of `up` ended after it was asked to.", ("child", "pid", "code")),
    "child.killed": Event(
        "A process of `up` did not end within its bound and was killed.", ("child", "pid", "after_s")
    ),
    "disk.full": Event(
        "A nats-server could not write and takes nothing; it is started anew once there is room.",
        ("child", "error", "free_bytes", "wanted_bytes"),
    ),
    "disk.has_room": Event("There is room again: the nats-server is started anew.", ("child", "free_bytes")),
    "stack.ready": Event("A request to the one-machine stack would succeed.", ("http", "nats", "after_s")),
    "stack.waiting": Event("The stack is not ready yet, and what it waits for.", ("waiting_for", "after_s")),
    "stack.stopping": Event("`up` begins to stop its processes, workers first."),
}
