"""The metrics of a gateway and of a worker: real processes, scraped as Prometheus scrapes them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from bus.jobs.client import Bus
from bus.settings import BusSettings
from bus.telemetry.metric_table import METRICS
from gateway.api.metrics import Stores
from ops.local.nats_server import locked, prepare
from tests.support.doors import STEADY, gated, gateway_here
from tests.support.figures import Figures, metrics_url, scrape, until
from tests.support.nats import running
from tests.support.programs import Fleet, Program, fleet_of, host_pid
from tests.support.web import base_of, ready, speech, state, until_state

pytestmark = pytest.mark.slow

INFO = ("--log-level", "info")
METRICS_ON = ("--metrics-port", "0")
QUEUE_BYTES = 16 << 10


@pytest.fixture
def small(bus_settings: BusSettings) -> Iterator[Fleet]:
    """A fleet whose queue a job of 20 kB does not fit into."""
    settings = BusSettings(
        nats=bus_settings.nats, root=bus_settings.root, jobs_max_bytes=QUEUE_BYTES, replies_max_bytes=64 << 20
    )
    with fleet_of(settings) as fleet:
        yield fleet


def of_table(by: str) -> set[str]:
    return {name for name, metric in METRICS.items() if metric.by == by}


def resident(worker: Program) -> int:
    """Main memory of the worker's engine host, by the kernel's account."""
    return int(Path(f"/proc/{host_pid(worker)}/statm").read_text().split()[1]) * 4096


async def until_the_fleet_tells(http: ClientSession, url: str, worker: Program) -> None:
    """Jobs that the only worker holds, by a heartbeat, which may be older than its jobs."""
    async with asyncio.timeout(20):
        while True:
            async with http.get(f"{url}/v1/fleet") as answer:
                (scraped,) = (await answer.json())["workers"]
            assert scraped["device_bytes"] is None, "tone has no device"
            if scraped["rss_bytes"] == pytest.approx(resident(worker), rel=0.2):
                return
            await asyncio.sleep(0.05)


async def test_three_jobs_done_and_one_refused_are_counted_as_just_that(small: Fleet, http: ClientSession) -> None:
    worker = small.worker("w1", "tone", 3, *METRICS_ON, *INFO)
    gateway, url = small.gateway(*INFO)
    await ready(http, url)
    jobs = []
    for text in ("one", "two", "three"):
        async with http.post(f"{url}/v1/audio/speech", json=speech(text=text, seconds=0.5)) as answer:
            assert answer.status == 200
            assert len(await answer.read()) == 24_000
            jobs.append(answer.headers["Antiphon-Job"])
    async with http.post(f"{url}/v1/audio/speech", json=speech(text="x" * 20_000)) as answer:
        assert answer.status == 507, await answer.text()

    scraped = await until(
        http,
        metrics_url(worker),
        lambda scraped: (
            scraped.get("antiphon_job_wait_seconds_count", model="tone", lane="interactive") == 3
            and not scraped.get("antiphon_slots_used")
        ),
    )
    blocks = sum([(await state(http, url, job))["blocks"] for job in jobs])
    assert_three_jobs_of_a_worker(scraped, blocks)
    assert scraped.get("antiphon_host_resident_bytes") == pytest.approx(resident(worker), rel=0.2)
    await until_the_fleet_tells(http, url, worker)
    scraped = await until(
        http, f"{url}/metrics", lambda scraped: scraped.get("antiphon_stream_messages", stream="jobs") == 0
    )
    assert_three_jobs_of_a_gateway(scraped)
    assert gateway.events("job.accepted") == [], "counted, although its level is not logged"


def assert_three_jobs_of_a_worker(figures: Figures, blocks: int) -> None:
    assert figures.of("antiphon_jobs_finished_total") == {("tone", "done"): 3}
    assert figures.of("antiphon_blocks_total") == {("tone",): blocks}
    assert figures.of("antiphon_audio_frames_total") == {("tone",): 36_000}
    assert figures.of("antiphon_audio_seconds_total") == {("tone",): 1.5}
    for name in ("antiphon_first_block_seconds", "antiphon_real_time_factor"):
        assert figures.of(f"{name}_count") == {("tone",): 3}
        assert 0 < figures.get(f"{name}_sum", model="tone") < 10
    for name in ("antiphon_stop_seconds_count", "antiphon_fenced_appends_total", "antiphon_stalls_total"):
        assert figures.of(name) == {}
    assert (figures.get("antiphon_slots"), figures.get("antiphon_slots_used")) == (3, 0)
    assert figures.of("antiphon_breaker") == {("closed",): 1}
    assert figures.of("antiphon_worker_state") == {("ready",): 1}
    assert figures.of("antiphon_model_loaded") == {("tone",): 1}
    assert {name for name in figures.names if name.startswith("antiphon_")} == of_table("worker") - {
        "antiphon_device_bytes"
    }, "tone has none"


def assert_three_jobs_of_a_gateway(figures: Figures) -> None:
    assert figures.of("antiphon_jobs_accepted_total") == {("interactive", "tone"): 3}
    assert figures.of("antiphon_refusals_total") == {("http", "storage_full", "507"): 1}
    assert figures.of("antiphon_first_audio_seconds_count") == {("interactive", "tone"): 3}
    assert 0 < figures.get("antiphon_first_audio_seconds_sum", lane="interactive", model="tone") < 10
    assert figures.of("antiphon_cache_answers_total") == {("miss",): 3}
    assert figures.of("antiphon_workers") == {("ready",): 1}
    assert figures.of("antiphon_fleet_breakers") == {("closed",): 1}
    assert (figures.get("antiphon_fleet_slots"), figures.get("antiphon_ready"), figures.get("antiphon_nats_up")) == (
        3,
        1,
        1,
    )
    assert (figures.get("antiphon_listeners"), figures.get("antiphon_requests")) == (0, 1)
    assert figures.of("antiphon_faults_total") == {}
    assert figures.get("antiphon_stream_limit_bytes", stream="jobs") == QUEUE_BYTES
    assert figures.get("antiphon_stream_bytes", stream="replies") > 3 * 24_000
    assert figures.of("antiphon_admission_refusing") == {}
    assert figures.get("antiphon_queue_jobs", model="tone", version="v1", lane="interactive") == 0
    assert {name for name in figures.names if name.startswith("antiphon_")} == of_table("gateway") - {
        "antiphon_queue_eta_seconds"
    }, "three starts in a minute are too few for an estimate"


async def test_a_cancel_is_counted_with_the_time_until_its_slot_was_free(
    fleet: Fleet, http: ClientSession, tmp_path: Path
) -> None:
    worker = fleet.worker("w1", "tone", 2, *METRICS_ON)
    _, url = fleet.gateway()
    await ready(http, url)
    params = {"seconds": 5, "device": "own", "gate": {"path": str(tmp_path / "never"), "before_block": 1}}
    async with http.post(f"{url}/v1/jobs", json={"model": "tone", "input": "t", "params": params}) as answer:
        job = (await answer.json())["id"]
    await until_state(http, url, job, "running")
    # All that comes before the gate has come: an append that met the end would count as a stop of another kind.
    async with asyncio.timeout(20):
        while (await state(http, url, job))["blocks"] < 1:
            await asyncio.sleep(0.02)
    scraped = await until(http, metrics_url(worker), lambda scraped: scraped.get("antiphon_slots_used") == 1)
    assert scraped.of("antiphon_stop_seconds_count") == {}
    async with http.delete(f"{url}/v1/jobs/{job}") as answer:
        assert answer.status == 200
    scraped = await until(http, metrics_url(worker), lambda scraped: scraped.of("antiphon_jobs_finished_total"))
    assert scraped.of("antiphon_jobs_finished_total") == {("tone", "fenced"): 1}
    assert scraped.of("antiphon_stop_seconds_count") == {("cancelled",): 1}
    assert scraped.get("antiphon_stop_seconds_sum", why="cancelled") < 5
    assert scraped.of("antiphon_real_time_factor_count") == {}, "only a job done has one"
    assert scraped.get("antiphon_slots_used") == 0


async def test_a_breaker_that_opened_is_reported_by_its_worker_and_by_every_gateway(
    fleet: Fleet, http: ClientSession
) -> None:
    worker = fleet.worker("w1", "tone", 2, *METRICS_ON, "--max-fails", "1", "--fail-timeout-s", "600")
    _, url = fleet.gateway()
    await ready(http, url)
    body = speech(seconds=1, fault={"kind": "raise", "at_block": 0})
    async with http.post(f"{url}/v1/audio/speech", json=body) as answer:
        assert answer.status == 502
    scraped = await until(http, metrics_url(worker), lambda scraped: scraped.of("antiphon_breaker") == {("open",): 1})
    assert scraped.of("antiphon_breaker_openings_total") == {(): 1}
    assert scraped.of("antiphon_jobs_finished_total") == {("tone", "failed"): 1}
    scraped = await until(
        http, f"{url}/metrics", lambda scraped: scraped.of("antiphon_fleet_breakers") == {("open",): 1}
    )
    assert scraped.of("antiphon_refusals_total") == {("http", "engine_failed", "502"): 1}


@pytest.mark.parametrize("ack_wait_s", [30.0])  # a gateway that stands still for a second must not be too late
async def test_a_takeover_is_counted_once_and_timed(fleet: Fleet, http: ClientSession, tmp_path: Path) -> None:
    first = fleet.worker("w1", "tone", 1)
    gateway, url = fleet.gateway()
    await ready(http, url)
    body = {"model": "tone", "input": "t", "params": gated(tmp_path / "open", 10, seconds=1, **STEADY)}
    async with http.post(f"{url}/v1/jobs", json=body) as answer:
        job = (await answer.json())["id"]
    # There is no listener, so that only heartbeats show which worker holds it.
    await until(http, f"{url}/metrics", lambda scraped: scraped.get("antiphon_fleet_slots_used") == 1)
    # Only now, so that it is not the other way round.
    second = fleet.worker("w2", "tone", 1, "--backup", *METRICS_ON)
    gateway.wait_for("worker.seen", 2)
    first.kill()
    (tmp_path / "open").touch()
    await until_state(http, url, job, "done", within_s=30)
    gateway.wait_for("takeover.done")
    scraped = await until(http, f"{url}/metrics", lambda scraped: scraped.of("antiphon_takeover_seconds_count"))
    assert scraped.of("antiphon_takeover_seconds_count") == {(): 1}
    assert scraped.of("antiphon_takeovers_total") == {(): 1}
    assert scraped.of("antiphon_workers_died_total") == {("no responders",): 1}
    scraped = await until(http, metrics_url(second), lambda scraped: scraped.of("antiphon_jobs_finished_total"))
    assert scraped.of("antiphon_job_wait_seconds_count") == {}, "it had been begun before"


async def test_a_full_queue_is_shown_in_bytes_and_as_a_refusal_before_a_request_meets_it(
    bus_settings: BusSettings, nats_url: str
) -> None:
    settings = BusSettings(
        nats=nats_url, root=bus_settings.root, jobs_max_bytes=QUEUE_BYTES, replies_max_bytes=64 << 20
    )
    async with gateway_here(settings) as (gateway, http):
        metrics = f"{base_of(http)}metrics"
        scraped = await scrape(http, metrics)
        assert scraped.of("antiphon_admission_refusing") == {}
        assert scraped.get("antiphon_stream_bytes", stream="jobs") == 0
        js, subjects = gateway.bus.js, gateway.bus.subjects
        await gateway.bus.topology.declare_consumers("nobody", "v1")
        for _ in range(15):
            await js.publish(subjects.job("nobody", "v1", "batch", "acme"), bytes(1000))
        await gateway.retention.look()
        scraped = await until(
            http, metrics, lambda scraped: scraped.get("antiphon_stream_messages", stream="jobs") == 15
        )
        assert scraped.of("antiphon_admission_refusing") == {("jobs",): 1}
        share = scraped.get("antiphon_stream_bytes", stream="jobs") / scraped.get(
            "antiphon_stream_limit_bytes", stream="jobs"
        )
        assert 0.9 < share < 1
        assert scraped.of("antiphon_queue_jobs") == {("batch", "nobody", "v1"): 15}
        assert "acme" not in "".join(scraped.names)


async def test_the_state_of_the_bus_is_read_once_for_many_requests(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    stores, read, info = Stores(bus), [], bus.js.info

    async def counted(stream: str) -> dict[str, Any]:
        read.append(stream)
        return await info(stream)

    monkeypatch.setattr(bus.js, "info", counted)
    await asyncio.gather(*(stores.refresh() for _ in range(50)))
    assert len(read) == len(set(read)) == 8
    assert stores.streams["replies"]["config"]["max_bytes"] == bus.settings.replies_max_bytes


async def test_during_an_outage_the_state_of_the_bus_is_left_out_and_not_repeated(
    http: ClientSession, root: str, tmp_path: Path
) -> None:
    with locked(tmp_path) as lock, running(prepare(tmp_path, lock, port=0, max_store_bytes=1 << 30)) as (server, at):
        settings = BusSettings(nats=at.nats, root=root, jobs_max_bytes=1 << 20, replies_max_bytes=1 << 20)
        with fleet_of(settings) as fleet:
            gateway, url = fleet.gateway()
            scraped = await scrape(http, f"{url}/metrics")
            assert (scraped.get("antiphon_nats_up"), scraped.get("antiphon_ready")) == (1, 0), "there is no worker"
            assert scraped.get("antiphon_stream_limit_bytes", stream="jobs") == 1 << 20
            server.kill()
            gateway.wait_for("nats.disconnected")
            scraped = await until(
                http, f"{url}/metrics", lambda scraped: "antiphon_stream_bytes" not in scraped.names, 30
            )
            assert scraped.get("antiphon_nats_up") == 0
            assert "antiphon_queue_jobs" not in scraped.names
            assert scraped.of("antiphon_jobs_accepted_total") == {}
            assert gateway.events("metrics.read_failed")


async def test_a_port_that_is_taken_ends_the_worker_with_its_number(fleet: Fleet, http: ClientSession) -> None:
    worker = fleet.worker("w1", "tone", 1, *METRICS_ON)
    port = metrics_url(worker).rpartition(":")[2].partition("/")[0]
    second = fleet.worker("w2", "tone", 1, "--metrics-port", port, wait=False)
    assert second.process.wait(30) == 1
    assert "address already in use" in second.log().lower()
    worker.stop()
    with pytest.raises(OSError, match="onnect"):
        await http.get(metrics_url(worker))
