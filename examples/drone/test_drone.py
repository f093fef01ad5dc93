from gpuworker.conformance.for_pytest import EngineConformance


class TestDrone(EngineConformance):
    name = "drone"
