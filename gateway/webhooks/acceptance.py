"""Accepts jobs with a webhook: the message that announces its events is stored before the job is accepted."""

from typing import Final

import msgspec
from aiohttp import web

from bus import wire
from bus.errors import JobError
from bus.jobs.submit import Accepted
from bus.webhook import Webhook
from gateway.jobs.service import Jobs
from gateway.webhooks.queue import WebhookQueue
from gateway.webhooks.sender import check


class WebhookAcceptance:
    """`Jobs.accept`, for jobs that may have a webhook."""

    def __init__(self, jobs: Jobs, queue: WebhookQueue, *, allow_private: bool) -> None:
        """`allow_private`: webhooks may point into this deployment's own network."""
        self._jobs = jobs
        self._queue = queue
        self._allow_private = allow_private

    def with_webhook(self, job: wire.Job, webhook: Webhook | None) -> wire.Job:
        """`job` with its webhook. Raises Invalid for a webhook that can never be delivered."""
        if webhook is None:
            return job
        check(webhook, allow_private=self._allow_private)
        # As the bus has it: a body's subclass would be unequal to what a birth decodes to.
        webhook = Webhook(url=webhook.url, events=webhook.events, secret=webhook.secret)
        return msgspec.structs.replace(job, client=msgspec.structs.replace(job.client, webhook=webhook))

    async def accept(self, job: wire.Job) -> Accepted:
        """Accept a validated job. Raises as `Jobs.accept` does."""
        if job.client.webhook is None:
            return await self._jobs.accept(job)
        key = self._jobs.key(job.tenant, job.id)
        births = self._jobs.bus.logs
        # The message comes first: a gateway that dies in between must not leave an accepted job without it. A job that
        # was accepted before had its message stored then, and its events may all have been delivered since.
        seq = await self._queue.add(key) if await births.birth(key) is None else None
        try:
            accepted = await self._jobs.accept(job)
        except JobError:
            if seq is not None:
                await self._queue.remove(seq)
                if await births.birth(key) is not None:
                    # Another request has made the job meanwhile, and relied on the message just removed.
                    await self._queue.add(key)
            raise
        if accepted.is_new and seq is None:
            # Another request of the same id stored the message, and removes it if it is refused.
            await self._queue.add(key)
        return accepted


WEBHOOKS: Final = web.AppKey("webhooks", WebhookAcceptance)
