"""`antiphon up` with a real nats-server, and small programs standing in for the gateway and the workers."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ops.errors import OpsError, UsageRefused
from ops.local import plan as planning
from ops.local.nats_server import Endpoints
from ops.local.node import locked, plan_nodes
from ops.local.stack import Stack, announce_human, announce_json, up
from ops.settings import UpSettings
from tests.support.nats import nats_server
from tests.support.stand_in_stack import Running, StandIns, stand_ins
from tests.support.waiting import eventually, gone


@pytest.fixture
def plan(tmp_path: Path) -> StandIns:
    return stand_ins(tmp_path)


@pytest.fixture
async def running(plan: StandIns) -> AsyncIterator[Running]:
    stack = Running(plan)
    yield stack
    if not stack.task.done():
        await stack.end()


def all_pids(stack: Stack) -> list[int]:
    return [child.pid for child in (*stack.nats, *stack.gateways, *stack.workers.values()) if child.pid is not None]


async def test_it_is_ready_only_when_every_worker_serves_every_model(plan: StandIns, running: Running) -> None:
    with capture_logs() as logs:
        for fleet in ((["w1"],), (["w1", "w2"], ["tone"])):
            plan.set_fleet(*fleet)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.shield(running.ready)
        plan.set_fleet(["w1", "w2", "stranger"])
        stack = await running.stack()
    assert len(all_pids(stack)) == 4
    assert [log["event"] for log in logs][-1] == "stack.ready"


async def test_it_ends_if_a_worker_could_load_no_model(plan: StandIns, running: Running) -> None:
    plan.set_fleet(["w1"], failed={"w2": {"speech": "RuntimeError: no voice", "tone": "x"}})
    with pytest.raises(OpsError, match=r"^w2 could load no model: speech: RuntimeError: no voice; tone: x$"):
        await running.stack()


async def test_it_goes_on_without_a_model_that_could_not_be_loaded_and_says_so(
    plan: StandIns, running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {each: {"speech": "RuntimeError: no voice"} for each in plan.workers}
    plan.set_fleet(["w1"], ["tone"], failed={"w1": failed["w1"]})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.shield(running.ready)
    plan.set_fleet(plan.workers, ["tone"], failed=failed)
    stack = await running.stack()
    capsys.readouterr()
    announce_json(plan, stack)
    assert json.loads(capsys.readouterr().out)["failed"] == failed
    announce_human(plan, stack)
    shown = capsys.readouterr().out
    assert "not served by w2: speech: RuntimeError: no voice" in shown
    assert "models: tone)" in shown


async def test_the_announcement_is_one_line_with_every_pid(
    plan: StandIns, running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.set_fleet(plan.workers)
    stack = await running.stack()
    capsys.readouterr()
    announce_json(plan, stack)
    (line,) = capsys.readouterr().out.splitlines()
    workers = {name: child.pid for name, child in stack.workers.items()}
    assert json.loads(line) == {
        "ready": True,
        "http": f"http://127.0.0.1:{plan.http_port}",
        "nats": plan.nodes[0].url,
        "pids": {"nats": stack.nats[0].pid, "gateway": [stack.gateways[0].pid], "workers": workers},
    }
    assert sorted(workers) == ["w1", "w2"]


def test_the_commands_it_prints_can_be_typed_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ops.local.stack.called", lambda: ".venv/bin/antiphon")
    given = settings(tmp_path, models=("tone", "music"), require_keys=True)
    made = planning.plan(given, None)
    announce_human(made, Stack([], [], {}))
    printed = capsys.readouterr().out
    assert f"first: .venv/bin/antiphon keys create --tenant me --nats {made.nats}, then export" in printed
    assert f'curl {made.http}/v1/audio/speech -H "Authorization: Bearer $ANTIPHON_API_KEY" -H ' in printed
    assert f'.venv/bin/antiphon compose "a calm evening" --seconds 20 -o evening.wav --url {made.http}\n' in printed


async def test_stopping_ends_workers_before_the_gateway_and_nats_last(plan: StandIns, running: Running) -> None:
    plan.set_fleet(plan.workers)
    stack = await running.stack()
    pids = all_pids(stack)
    with capture_logs() as logs:
        await running.end()
    stopped = [log["child"] for log in logs if log["event"] == "child.stopped"]
    assert sorted(stopped[:2]) == ["worker w1", "worker w2"]
    assert stopped[2:] == ["gateway", "nats"]
    assert all(map(gone, pids))


async def test_each_that_is_killed_comes_back_nats_on_its_port(plan: StandIns, running: Running) -> None:
    plan.set_fleet(plan.workers)
    stack = await running.stack()
    before = all_pids(stack)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: len(all_pids(stack)) == 4 and not set(all_pids(stack)) & set(before))
    (node,) = plan.nodes
    # Kept: a busy server may not answer a second request in time.
    found: list[Endpoints] = []

    def back() -> bool:
        if (endpoints := node.ready(stack.nats[0].pid)) is not None:
            found.append(endpoints)
        return bool(found)

    await eventually(back)
    assert found[0].port == node.port


async def test_a_child_that_refuses_its_settings_ends_the_stack(plan: StandIns) -> None:
    refusing = StandIns(**{name: getattr(plan, name) for name in plan.__struct_fields__} | {"worker_role": "refuses"})
    with pytest.raises(OpsError, match=r"^worker w[12] refused its settings"):
        await Running(refusing).stack()


async def test_stopping_before_it_is_ready_leaves_nothing(plan: StandIns, running: Running) -> None:
    with capture_logs() as logs:
        await eventually(lambda: [log for log in logs if log.get("child") == "gateway"])
        await running.end()
    started = [log["pid"] for log in logs if log["event"] == "child.started"]
    assert len(started) >= 2
    assert all(map(gone, started))


async def test_a_second_stack_on_the_same_state_is_refused(
    plan: StandIns, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.set_fleet(plan.workers)
    await running.stack()
    monkeypatch.setattr("ops.local.stack.LOCK_PATIENCE_S", 0.0)
    with pytest.raises(OpsError, match=rf"in use by process {os.getpid()}; .*--state"):
        await up(plan, asyncio.Event(), lambda *_: None)


def test_a_folder_that_cannot_be_written_is_named_with_the_flag_for_another() -> None:
    nodes = plan_nodes(Path("/proc/nowhere/nats"), 1, 0)
    with (
        pytest.raises(OpsError, match=r"^cannot write /proc/nowhere.*; choose another folder with --state$"),
        locked(nodes, 0.0),
    ):
        pass


def settings(tmp_path: Path, **more: object) -> UpSettings:
    return UpSettings(state=str(tmp_path), **{"http_port": 0, "nats_port": 0} | more)


def test_a_stack_that_requires_keys_has_a_gateway_that_serves_no_caller_without(tmp_path: Path) -> None:
    commands = [planning.plan(settings(tmp_path, require_keys=keys), None).gateway_command() for keys in (True, False)]
    assert ["--no-anonymous" in command for command in commands] == [True, False]


def test_origins_and_tls_reach_the_gateway(tmp_path: Path) -> None:
    given = {"cors_origins": ("https://app.example.org", "http://localhost:3000"), "tls_cert": "/c", "tls_key": "/k"}
    given["allowed_hosts"] = ("host.docker.internal", "box.local")
    made = planning.plan(settings(tmp_path, **given), None)
    command = made.gateway_command()
    assert command[command.index("--cors-origins") + 1] == "https://app.example.org,http://localhost:3000"
    assert command[command.index("--tls-cert") + 1 :] == ["/c", "--tls-key", "/k"]
    assert made.http.startswith("https://127.0.0.1:")
    plain = planning.plan(settings(tmp_path), None)
    assert command[command.index("--allowed-hosts") + 1] == "host.docker.internal,box.local"
    assert not {"--allowed-hosts", "--cors-origins", "--tls-cert", "--tls-key"} & set(plain.gateway_command())


def test_a_taken_http_port_is_refused_by_number_and_flag(tmp_path: Path) -> None:
    with nats_server() as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(OpsError, match=rf"port {port} of 127.0.0.1 is taken; .*--http-port"):
            planning.plan(settings(tmp_path, http_port=port), None)


def test_port_0_means_any_free_one_chosen_once(tmp_path: Path) -> None:
    made = planning.plan(settings(tmp_path), None)
    (node,) = made.nodes
    assert made.http_port != node.port
    assert {made.http_port, node.port}.isdisjoint({0})


def test_models_that_cannot_be_loaded_are_left_out_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.local.models._importable", lambda name: name != "torch")
    with capture_logs() as logs:
        assert planning.plan(settings(tmp_path), None).models == ("speech", "tone", "piper")
    assert [(log["event"], log["model"]) for log in logs] == [("model.missing", "music")]
    with pytest.raises(OpsError, match=r"music: torch is not installed; get it with: .* -m pip install"):
        planning.plan(settings(tmp_path, models=("music", "tone")), None)


def test_piper_is_served_where_its_packages_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.local.models._importable", lambda name: name != "onnxruntime")
    with capture_logs() as logs:
        assert planning.plan(settings(tmp_path), None).models == ("speech", "music", "tone")
    assert logs == []


def test_a_model_that_no_engine_has_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageRefused, match=r"--models: no engine called 'spech'.*did you mean speech\?"):
        planning.plan(settings(tmp_path, models=("spech",)), None)
