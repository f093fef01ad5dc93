"""The checks as tests of pytest: derive a class whose name begins with `Test`, and name the engine and its jobs.

The only module here that needs pytest.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from gpuworker import registry
from gpuworker.conformance.rules import NotApplicable
from gpuworker.conformance.subject import Jobs, Subject
from gpuworker.conformance.suite import CHECKS, Check
from gpuworker.engine import Engine, EngineJob


class EngineConformance:
    """The tests. A derived class, called `Test…`, names the engine, and its jobs if the usual ones do not fit."""

    #: Name of the entry point.
    name: ClassVar[str]
    #: Two different jobs; the first makes at least three blocks.
    first: ClassVar[EngineJob] = Jobs().first
    second: ClassVar[EngineJob] = Jobs().second
    #: The params that let a job share a forward, for an engine that batches.
    batchable: ClassVar[Mapping[str, Any]] = {}
    #: The engine's options.
    options: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def make(cls) -> Engine:
        """A new engine, not loaded."""
        return registry.make(cls.name, cls.options)

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls) -> Iterator[Subject]:
        """The engine, loaded once for all tests."""
        subject = Subject(cls.name, cls.make, Jobs(cls.first, cls.second, cls.batchable))
        yield subject
        subject.close()

    def test_it_can_be_described_without_options(self) -> None:
        """An engine is made without options by `doctor`, which reads its requirements."""
        assert registry.make(self.name).capabilities().name == self.name

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    def test_conformance(self, check: Check, subject: Subject) -> None:
        """One check. A rule that is not about this engine has nothing to test."""
        try:
            check.run(subject)
        except NotApplicable as reason:
            print(f"not applicable: {reason}")  # noqa: T201  # pytest shows it with -rP
