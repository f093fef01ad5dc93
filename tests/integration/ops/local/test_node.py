"""The nats-servers that `antiphon up` plans: how many, where their stores are, and where they listen."""

import errno
from pathlib import Path

import pytest

from ops.errors import OpsError, UsageRefused
from ops.local import nats_server
from ops.local import plan as planning
from ops.local.node import locked, plan_nodes
from ops.local.supervisor import LaunchError
from ops.settings import UpSettings


@pytest.mark.parametrize("count", [0, 2, 4, 7])
def test_any_other_number_of_nodes_than_one_three_or_five_is_refused(tmp_path: Path, count: int) -> None:
    settings = UpSettings(state=str(tmp_path), http_port=0, nats_port=0, models=("tone",), nats_nodes=count)
    with pytest.raises(UsageRefused, match=rf"--nats-nodes: {count} is not one of 1, 3, 5"):
        planning.plan(settings, None)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (3, 5)])
def test_a_store_keeps_its_number_of_nodes(tmp_path: Path, before: int, after: int) -> None:
    for node in plan_nodes(tmp_path, before, 0):
        (node.folder / "js").mkdir(parents=True)
    with pytest.raises(OpsError, match=rf"use --nats-nodes {before} or choose another folder with --state"):
        plan_nodes(tmp_path, after, 0)
    assert len(plan_nodes(tmp_path, before, 0)) == before


def test_the_nodes_of_a_cluster_listen_side_by_side_and_know_each_other(tmp_path: Path) -> None:
    nodes = plan_nodes(tmp_path, 3, 4222)
    assert [node.port for node in nodes] == [4222, 4223, 4224]
    memberships = [node.membership for node in nodes if node.membership]
    assert [each.name for each in memberships] == ["n1", "n2", "n3"]
    assert [(each.route_port,) for each in memberships] == list(zip(memberships[0].route_ports, strict=True))
    assert len({node.folder for node in nodes} | {tmp_path}) == 4


def test_each_node_has_a_lock_and_one_taken_refuses_the_cluster(tmp_path: Path) -> None:
    nodes = plan_nodes(tmp_path, 3, 0)
    with locked(nodes[1:2], 0.0), pytest.raises(OpsError, match=r"n2 is in use by process \d+"), locked(nodes, 0.0):
        pass
    with locked(nodes, 0.0) as ours:
        assert len({own.lock for own in ours}) == 3


def test_a_server_that_cannot_be_started_for_want_of_room_is_tried_again_and_does_not_end_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with locked(plan_nodes(tmp_path, 1, 0), 0.0) as (own,):
        monkeypatch.setattr(nats_server, "prepare", full)
        with pytest.raises(LaunchError, match="No space left on device"):
            own.launch()


def test_a_cluster_gives_its_children_every_url_as_many_replicas_and_a_longer_ack_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = UpSettings(state=str(tmp_path), http_port=0, nats_port=0, models=("tone",), nats_nodes=3)
    command = " ".join(planning.plan(settings, None).worker_command("w1"))
    assert command.count("nats://") == 3
    assert "--replicas 3 --ack-wait-s 12 --request-timeout-s 2" in command
    monkeypatch.setenv("ANTIPHON_ACK_WAIT_S", "20")
    assert "--ack-wait-s 20" in " ".join(planning.plan(settings, None).gateway_command())


def test_options_of_engines_are_handed_on_to_the_workers(tmp_path: Path) -> None:
    options = ("tone.allow_faults=true", "tone.other=a,b")
    settings = UpSettings(state=str(tmp_path), http_port=0, nats_port=0, models=("tone",), engine_option=options)
    command = planning.plan(settings, None).worker_command("w1")
    assert [command[i + 1] for i, part in enumerate(command) if part == "--engine-option"] == list(options)


def test_the_stack_waits_for_the_models_of_an_engine_that_has_a_table_for_each(tmp_path: Path) -> None:
    config = tmp_path / "antiphon.toml"
    config.write_text("[engines.upstream.qwen]\nurl = 'http://127.0.0.1:1'\n")
    options = ("upstream.music.url=http://127.0.0.1:2",)
    settings = UpSettings(
        state=str(tmp_path), http_port=0, nats_port=0, models=("tone", "upstream"), engine_option=options
    )
    planned = planning.plan(settings, str(config))
    assert planned.models == ("tone", "qwen", "music")
    assert "--models tone,upstream" in " ".join(planned.worker_command("w1"))
