"""`antiphon chaos` and `antiphon soak`: from settings to a verdict."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bus.telemetry import logging as telemetry
from ops.chaos.faults import KINDS, default_kinds
from ops.chaos.report import details, table, timeline
from ops.chaos.run import Course, chaos, say
from ops.chaos.settings import ChaosSettings, SoakSettings
from ops.chaos.soak import soak, write
from ops.chaos.stack import Size
from ops.errors import OpsError, UsageRefused
from ops.local import models
from ops.local.node import SIZES

_MAX_STORE_BYTES = 24 << 30
_REPLIES_BYTES = 16 << 30
#: With `--kinds disk`: of the store's own file system, in memory.
_DISK_BYTES = 2 << 30
_SOAK_ACK_WAIT_S = 5.0


def course(settings: ChaosSettings) -> Course:
    """Raises UsageRefused."""
    if unknown := sorted(set(settings.kinds) - set(KINDS)):
        raise UsageRefused(f"--kinds: {', '.join(unknown)} is not one of {', '.join(KINDS)}")
    if settings.nats_nodes not in SIZES:
        raise UsageRefused(f"--nats-nodes: {settings.nats_nodes} is not one of {', '.join(map(str, SIZES))}")
    clustered = settings.nats_nodes > 1
    needs = {KINDS[name].needs: name for name in settings.kinds}
    if "nodes" in needs and not clustered:
        raise UsageRefused(f"--kinds {needs['nodes']}: needs a cluster; add --nats-nodes 3")
    if "disk" in needs and clustered:
        raise UsageRefused(
            f"--kinds {needs['disk']}: fills the store of one nats-server, and --nats-nodes is {settings.nats_nodes}"
        )
    return Course(
        seed=settings.seed,
        num_faults=settings.faults,
        duration_s=settings.minutes * 60,
        kinds=settings.kinds or default_kinds(clustered=clustered),
        streams=settings.streams,
        settle_s=settings.settle_s,
        size=_size(
            settings,
            settings.ack_wait_s,
            disk_bytes=_DISK_BYTES if "disk" in needs else 0,
            nats_nodes=settings.nats_nodes,
        ),
    )


def _size(
    settings: ChaosSettings | SoakSettings, ack_wait_s: float, *, disk_bytes: int = 0, nats_nodes: int = 1
) -> Size:
    return Size(
        workers=settings.workers,
        gateways=settings.gateways,
        slots=settings.slots,
        models=loadable(),
        ack_wait_s=ack_wait_s,
        max_store_bytes=_MAX_STORE_BYTES,
        replies_max_bytes=_REPLIES_BYTES,
        disk_bytes=disk_bytes,
        nats_nodes=nats_nodes,
    )


def loadable() -> tuple[str, ...]:
    """`tone` first, so that a new worker is of use before the heavy models have loaded."""
    return ("tone", *(model for model in ("speech", "music") if models.missing(model) is None))


@contextmanager
def _own_log(path: Path) -> Iterator[None]:
    """What this process logs goes to `path` for the length of the block: a terminal is for the report."""
    with path.open("w") as own:
        telemetry.configure("chaos", form="json", level="info", stream=own)
        try:
            yield
        finally:
            telemetry.configure("chaos")


def folder_for(state: str, purpose: str) -> tuple[Path, bool]:
    """Where a run keeps what it leaves behind, and whether that is temporary."""
    if not state:
        return Path(tempfile.mkdtemp(prefix=f"antiphon-{purpose}-")), True
    folder = Path(state).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder, False


def run_chaos(settings: ChaosSettings, *, as_json: bool) -> None:
    """Print the table. Raises OpsError, naming the folder of the logs, if anything was lost, wrong, doubled, leaked."""
    plan = course(settings)
    folder, is_temporary = folder_for(settings.state, "chaos")
    say(f"logs and store in {folder}")
    with _own_log(folder / "chaos.log"):
        report = asyncio.run(chaos(plan, folder))
    (folder / "report.json").write_text(json.dumps({**report.as_json(), **timeline(report)}, indent=1))
    print(json.dumps(report.as_json()) if as_json else table(report))
    if not report.is_good:
        raise OpsError(f"not good; logs in {folder}\n{details(report)}")
    if is_temporary:
        shutil.rmtree(folder)


def run_soak(settings: SoakSettings, *, as_json: bool) -> None:
    """Print the table, leave the plot. Raises OpsError if memory grew, or anything was lost or leaked."""
    size = _size(settings, _SOAK_ACK_WAIT_S)
    folder, _ = folder_for(settings.state, "soak")
    with _own_log(folder / "soak.log"):
        soaked = asyncio.run(
            soak(settings.seed, settings.minutes * 60, settings.streams, settings.settle_s, size, folder)
        )
    write(soaked, folder)
    (folder / "report.json").write_text(json.dumps(soaked.as_json(), indent=1))
    print(json.dumps(soaked.as_json()) if as_json else table(soaked.report))
    say(f"the plot is {folder / 'soak.svg'}, its figures are {folder / 'soak.csv'}")
    if not soaked.is_good:
        raise OpsError("\n".join(["not good", *soaked.too_much, details(soaked.report)]))
