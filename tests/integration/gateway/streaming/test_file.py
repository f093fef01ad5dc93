"""A finished job as a file with ranges, and single blocks."""

import random

import pytest

from bus import wire
from bus.settings import BusSettings
from tests.support.doors import data_at, gateway_here, wav_pcm
from tests.support.jobs import tone_job
from tests.support.log_writer import finish, take, write_log


async def test_a_finished_job_is_a_file_with_ranges(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job()
        await gateway.jobs.accept(job)
        await write_log(gateway.bus, job, 40)
        pcm = b"".join(bytes([block]) * 20 for block in range(40))
        path = f"/v1/jobs/{job.id}/audio"
        async with http.get(path) as answer:
            wav = await answer.read()
            assert (answer.status, int(answer.headers["Content-Length"])) == (200, len(wav))
            assert answer.headers["Accept-Ranges"] == "bytes"
            etag = answer.headers["ETag"]
        assert wav[4:8] == (len(wav) - 8).to_bytes(4, "little")
        begin, end = data_at(wav), len(wav)
        assert wav[begin - 4 :] == (800).to_bytes(4, "little") + pcm
        for wanted, start, stop in (
            ("bytes=0-9", 0, 10),
            (f"bytes={begin - 4}-{begin + 19}", begin - 4, begin + 20),
            ("bytes=301-302", 301, 303),
            ("bytes=-7", end - 7, end),
            (f"bytes={end - 1}-", end - 1, end),
            ("bytes=100-99999", 100, end),
        ):
            async with http.get(path, headers={"Range": wanted}) as answer:
                assert (answer.status, await answer.read()) == (206, wav[start:stop]), wanted
                assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{end}"
        async with http.get(path, headers={"Range": f"bytes={end}-"}) as answer:
            assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{end}")
            assert (await answer.json())["code"] == "range_not_satisfiable"
        async with http.get(path, headers={"If-None-Match": etag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with http.get(path, headers={"Range": "bytes=0-9", "If-Range": '"other"'}) as answer:
            assert (answer.status, await answer.read()) == (200, wav)
        async with http.head(path) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(end))
        async with http.get(f"{path}?format=pcm&from_frame=395") as answer:
            assert await answer.read() == pcm[790:]
        assert gateway.interest.num_listeners == 0


async def test_files_of_equal_audio_with_other_tags_are_other_files(bus_settings: BusSettings) -> None:
    """A client that resumes by `If-Range` must not join parts of two of them."""
    async with gateway_here(bus_settings) as (gateway, http):
        tags: dict[str, set[str]] = {"wav": set(), "pcm": set()}
        for job in (tone_job(), tone_job(marking="none")):
            await gateway.jobs.accept(job)
            await write_log(gateway.bus, job, 3)
            for form, seen in tags.items():
                async with http.head(f"/v1/jobs/{job.id}/audio?format={form}") as answer:
                    seen.add(answer.headers["ETag"])
        assert {form: len(seen) for form, seen in tags.items()} == {"wav": 2, "pcm": 1}


async def test_a_block_is_read_by_its_number_and_a_missing_one_has_a_reason(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job, other = tone_job(), tone_job()
        for each in (job, other):
            await gateway.jobs.accept(each)
        writer = await write_log(gateway.bus, job, 9, is_done=False)
        await writer.progress(wire.Progress(phase="x", done=1))
        await write_log(gateway.bus, other, 5)
        await writer.block(b"\x09" * 20, 10)
        for number in range(10):
            async with http.get(f"/v1/jobs/{job.id}/blocks/{number}") as answer:
                assert (answer.status, wav_pcm(await answer.read())) == (200, bytes([number]) * 20)
                assert answer.headers["Antiphon-Frame"] == str(number * 10)
        for job_id, number, code in (
            (job.id, "10", "block_not_yet"),
            (other.id, "5", "no_such_block"),
            (job.id, "-1", "not_found"),
        ):
            async with http.get(f"/v1/jobs/{job_id}/blocks/{number}") as answer:
                assert (answer.status, (await answer.json())["code"]) == (404, code)


async def test_a_log_that_lost_its_beginning_is_gone_as_a_whole(bus_settings: BusSettings) -> None:
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job()
        accepted = await gateway.jobs.accept(job)
        await write_log(gateway.bus, job, 3)
        stream = gateway.bus.subjects.replies_stream
        # Retention removes the birth first: without its first entry alone, a log is damaged.
        for seq, expected in ((accepted.seq + 2, (502, "log_damaged")), (accepted.seq, (410, "gone"))):
            await gateway.bus.js.delete(stream, seq)
            for path in ("audio", "blocks/0"):
                async with http.get(f"/v1/jobs/{job.id}/{path}") as answer:
                    assert (answer.status, (await answer.json())["code"]) == expected


@pytest.mark.parametrize("num_steps", [1, 300])
async def test_a_range_within_the_first_frame_is_exact_after_any_number_of_progress_entries(
    bus_settings: BusSettings, num_steps: int
) -> None:
    """A page of the log has 256 entries at most: after 300 steps the first page has no audio."""
    pcm = random.Random(2).randbytes(48_000)
    async with gateway_here(bus_settings) as (gateway, http):
        job = tone_job(run_on=True)
        await gateway.jobs.accept(job)
        writer = await take(gateway.bus, job)
        for n in range(num_steps):
            await writer.progress(wire.Progress(phase="steps", done=n, total=num_steps))
        await writer.block(pcm, 24_000)
        await finish(writer)
        async with http.get(f"/v1/jobs/{job.id}/audio?format=pcm", headers={"Range": "bytes=1-9"}) as response:
            assert response.status == 206
            assert await response.read() == pcm[1:10]
