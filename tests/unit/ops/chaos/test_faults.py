"""A new chaos fault is one registered function: planner, injector, report and command line find it by its name."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from bus.jobs.client import Bus
from ops.chaos.cli import run_plan
from ops.chaos.faults import KINDS, Fault, default_kinds, fault
from ops.chaos.fleet_monitor import FleetMonitor
from ops.chaos.injector import Scene, inject
from ops.chaos.plan import counts, schedule
from ops.chaos.report import Report
from ops.chaos.settings import ChaosSettings
from ops.chaos.stack import Stack
from ops.errors import UsageRefused

CLUSTER_KINDS = {"leader_kill"}
DISK_KINDS = {"disk"}


class Worker(SimpleNamespace):
    """A process of the stack, as far as a fault reads it."""

    pid = 1
    name = "w1"


def scene_of(*behaviours: str) -> tuple[Scene, list[str]]:
    """A stack of one warm worker; client faults append their behaviour to the list."""
    performed = list(behaviours)

    async def as_client(behaviour: str) -> None:
        performed.append(behaviour)

    async def flood(pick: float, for_s: float) -> None:
        performed.append(f"flood {pick} {for_s}")

    stack = cast(Stack, SimpleNamespace(workers=[Worker()], gateways=[], nodes=[]))
    monitor = cast(FleetMonitor, SimpleNamespace(is_warm=lambda worker: True))
    return Scene(stack, cast(Bus, None), monitor, as_client, flood), performed


@pytest.fixture
def eclipse() -> Iterator[str]:
    """One more fault, as an engineer would add it, for the length of a test."""

    @fault(weight=50, for_s=(0.001, 0.002))
    async def eclipse(scene: Scene, fault: Fault) -> None:
        worker = await scene.worker(fault)
        scene.record(fault, worker.name, fault.for_s)

    yield "eclipse"
    del KINDS["eclipse"]


async def test_one_more_fault_is_planned_injected_and_reported(eclipse: str) -> None:
    assert eclipse in default_kinds()
    assert counts(1000, default_kinds())[eclipse] > 40
    planned = schedule(1, 5, 0.01, 5.0, (eclipse,))
    assert [0.001 <= each.for_s <= 0.002 for each in planned] == [True] * 5

    scene, _ = scene_of()
    indices: list[int] = []
    await inject(scene, planned, indices.append)
    assert indices == [0, 1, 2, 3, 4]
    assert {(each.kind, each.target) for each in scene.injections} == {(eclipse, "w1")}
    assert Report(1, 1.0, injections=scene.injections).faults == {eclipse: 5}


def test_one_more_fault_can_be_chosen_on_the_command_line(eclipse: str) -> None:
    assert run_plan(ChaosSettings(kinds=(eclipse,))).kinds == (eclipse,)
    with pytest.raises(UsageRefused, match=f"--kinds: fire is not one of .*{eclipse}"):
        run_plan(ChaosSettings(kinds=("fire",)))


async def test_a_client_fault_sends_a_request_of_that_behaviour() -> None:
    scene, performed = scene_of()
    await inject(scene, [Fault(0.0, "poison", 0.5)], lambda index: None)
    assert performed == ["poison"]
    assert [(each.kind, each.target) for each in scene.injections] == [("poison", "client")]


async def test_a_flood_fault_lets_the_flooding_tenant_flood() -> None:
    scene, performed = scene_of()
    await inject(scene, [Fault(0.0, "flood", 0.5, for_s=3.0)], lambda index: None)
    assert performed == ["flood 0.5 3.0"]


def test_a_name_can_be_registered_once() -> None:
    async def worker_kill(scene: Scene, fault: Fault) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="worker_kill"):
        fault(weight=1)(worker_kill)


def test_faults_that_need_a_cluster_or_a_disk_take_part_only_where_they_can() -> None:
    assert not set(default_kinds()) & (CLUSTER_KINDS | DISK_KINDS | {"flood"})
    assert set(default_kinds(clustered=True)) - set(default_kinds()) == CLUSTER_KINDS


@pytest.mark.parametrize(
    ("kind", "nats_nodes", "message"),
    [("leader_kill", 1, "--kinds leader_kill: needs a cluster"), ("disk", 3, "--kinds disk: .* --nats-nodes is 3")],
)
def test_a_fault_that_the_stack_cannot_have_is_refused(kind: str, nats_nodes: int, message: str) -> None:
    with pytest.raises(UsageRefused, match=message):
        run_plan(ChaosSettings(kinds=(kind,), nats_nodes=nats_nodes))


def test_only_a_disk_fault_mounts_a_disk() -> None:
    assert run_plan(ChaosSettings(kinds=("disk",))).spec.disk_bytes > 0
    assert run_plan(ChaosSettings()).spec.disk_bytes == 0
