"""Settings of `antiphon chaos` and `antiphon soak`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from bus.settings import Seconds, doc
from ops.chaos.faults import KINDS


class SoakSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `antiphon soak`."""

    minutes: Annotated[float, Meta(gt=0, le=10_080), doc("Minutes of steady load.")] = 20.0
    seed: Annotated[int, Meta(ge=0), doc("Equal seeds make equal requests.")] = 1
    workers: Annotated[int, Meta(ge=1, le=16), doc("Worker processes.")] = 2
    gateways: Annotated[int, Meta(ge=1, le=8), doc("Gateway processes.")] = 2
    slots: Annotated[int, Meta(ge=1, le=1024), doc("Jobs that one worker runs at the same time.")] = 8
    streams: Annotated[
        int, Meta(ge=1, le=1000), doc("Clients at the same time, each with one request after the other.")
    ] = 10
    settle_s: Annotated[
        float, Meta(ge=0, le=3600), doc("Seconds between the end of the last job and the search for leaks.")
    ] = 60.0
    state: Annotated[str, doc("Folder for soak.csv, soak.svg, logs and store; a temporary one if not given.")] = ""


class ChaosSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `antiphon chaos`."""

    faults: Annotated[int, Meta(ge=0, le=100_000), doc("Number of faults.")] = 100
    minutes: Annotated[float, Meta(gt=0, le=1440), doc("Minutes over which the faults are spread.")] = 5.0
    seed: Annotated[int, Meta(ge=0), doc("Equal seeds make equal requests, and equal faults at equal times.")] = 1
    workers: Annotated[int, Meta(ge=1, le=16), doc("Worker processes.")] = 3
    gateways: Annotated[int, Meta(ge=1, le=8), doc("Gateway processes.")] = 2
    slots: Annotated[int, Meta(ge=1, le=1024), doc("Jobs that one worker runs at the same time.")] = 8
    streams: Annotated[
        int, Meta(ge=1, le=1000), doc("Clients at the same time, each with one request after the other.")
    ] = 10
    kinds: Annotated[
        tuple[str, ...],
        doc(
            f"Which of {', '.join(KINDS)}; all by default, except disk, which needs root, and leader_kill, which needs"
            " --nats-nodes 3 or 5."
        ),
    ] = ()
    nats_nodes: Annotated[int, doc("nats-servers: 1, or 3 or 5 as a cluster.")] = 1
    ack_wait_s: Annotated[Seconds, doc("Time after which NATS delivers a job again if its worker is silent.")] = 5.0
    settle_s: Annotated[
        float, Meta(ge=0, le=3600), doc("Seconds between the end of the last job and the search for leaks.")
    ] = 60.0
    state: Annotated[str, doc("Folder for logs and store; a temporary one, removed after success, if not given.")] = ""
