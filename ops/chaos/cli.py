"""`antiphon chaos` and `antiphon soak`: settings, one run, its report, and whether it was good."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bus.telemetry import logging as telemetry
from ops.chaos.faults import KINDS, default_kinds
from ops.chaos.live_stack import print_status
from ops.chaos.report import details, table, timeline
from ops.chaos.run import RunPlan, chaos
from ops.chaos.settings import ChaosSettings, SoakSettings
from ops.chaos.soak import soak, write
from ops.chaos.stack import StackSpec
from ops.errors import OpsError, UsageRefused
from ops.local import models
from ops.local.node import SIZES

_MAX_STORE_BYTES = 24 << 30
_REPLIES_BYTES = 16 << 30
#: Size of the store's own file system, in memory, for faults that fill the disk.
_DISK_BYTES = 2 << 30
_SOAK_ACK_WAIT_S = 5.0


def run_plan(settings: ChaosSettings) -> RunPlan:
    """The run that the settings describe. Raises UsageRefused if the stack cannot have the faults that they name."""
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
    return RunPlan(
        seed=settings.seed,
        num_faults=settings.faults,
        duration_s=settings.minutes * 60,
        kinds=settings.kinds or default_kinds(clustered=clustered),
        streams=settings.streams,
        settle_s=settings.settle_s,
        spec=_spec(
            settings,
            settings.ack_wait_s,
            disk_bytes=_DISK_BYTES if "disk" in needs else 0,
            nats_nodes=settings.nats_nodes,
        ),
    )


def _spec(
    settings: ChaosSettings | SoakSettings, ack_wait_s: float, *, disk_bytes: int = 0, nats_nodes: int = 1
) -> StackSpec:
    return StackSpec(
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
    """The models that this machine can load, `tone` first: a new worker serves it while the heavy models still load."""
    return ("tone", *(model for model in ("speech", "music") if models.missing(model) is None))


@contextmanager
def _own_log(path: Path) -> Iterator[None]:
    """Log to `path` for the length of the block, so that the terminal shows only the report."""
    with path.open("w") as own:
        telemetry.configure("chaos", form="json", level="info", stream=own)
        try:
            yield
        finally:
            telemetry.configure("chaos")


def folder_for(state: str, purpose: str) -> tuple[Path, bool]:
    """The folder for logs and store of a run, made if it is missing, and whether it is temporary."""
    if not state:
        return Path(tempfile.mkdtemp(prefix=f"antiphon-{purpose}-")), True
    folder = Path(state).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder, False


def run_chaos(settings: ChaosSettings, *, as_json: bool) -> None:
    """Print the report. Raises OpsError, with the folder of the logs, if anything was damaged, leaked or crashed."""
    plan = run_plan(settings)
    folder, is_temporary = folder_for(settings.state, "chaos")
    print_status(f"logs and store in {folder}")
    with _own_log(folder / "chaos.log"):
        report = asyncio.run(chaos(plan, folder))
    (folder / "report.json").write_text(json.dumps({**report.as_json(), **timeline(report)}, indent=1))
    print(json.dumps(report.as_json()) if as_json else table(report))
    if not report.is_good:
        raise OpsError(f"not good; logs in {folder}\n{details(report)}")
    if is_temporary:
        shutil.rmtree(folder)


def run_soak(settings: SoakSettings, *, as_json: bool) -> None:
    """Print the report and write the plot. Raises OpsError if memory grew, or anything was damaged or leaked."""
    spec = _spec(settings, _SOAK_ACK_WAIT_S)
    folder, _ = folder_for(settings.state, "soak")
    with _own_log(folder / "soak.log"):
        result = asyncio.run(
            soak(settings.seed, settings.minutes * 60, settings.streams, settings.settle_s, spec, folder)
        )
    write(result, folder)
    (folder / "report.json").write_text(json.dumps(result.as_json(), indent=1))
    print(json.dumps(result.as_json()) if as_json else table(result.report))
    print_status(f"the plot is {folder / 'soak.svg'}, its figures are {folder / 'soak.csv'}")
    if not result.is_good:
        raise OpsError("\n".join(["not good", *result.grown, details(result.report)]))
