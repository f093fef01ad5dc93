from gpuworker.conformance.for_pytest import EngineConformance
from gpuworker.engine import EngineJob


class TestMetronome(EngineConformance):
    name = "metronome"
    first = EngineJob(id="first", input="one two three four")
    second = EngineJob(id="second", input="tick tock", params={"bpm": 200})
