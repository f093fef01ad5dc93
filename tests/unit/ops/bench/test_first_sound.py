"""`antiphon bench voice`: the figures of a voice."""

import json

from ops.bench.first_sound import Report, Spoken, report, speed


def test_the_figures_of_a_voice_are_of_all_its_sentences() -> None:
    spoken = [Spoken(first_s=number / 1000, total_s=0.5, audio_s=2.0) for number in range(100, 0, -1)]
    found = speed("piper", "joe", spoken)
    assert (found.requests, found.first_p50_ms, found.first_p90_ms, found.first_max_ms) == (100, 50.5, 91, 100)
    assert found.pace == 4.0


def test_the_report_says_how_busy_the_machine_was() -> None:
    found = Report([speed("piper", "joe", [Spoken(0.05, 0.5, 2.0)])], load=1.5, cores=2)
    table = report(found, as_json=False).splitlines()
    assert (table[1].split(), table[-1]) == (
        ["joe", *["50", "ms"] * 3, "4.0", "s"],
        "load 1.5 on 2 cores",
    )
    assert json.loads(report(found, as_json=True))["voices"][0]["first_p50_ms"] == 50
