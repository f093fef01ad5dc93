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
    "gpuworker/engines": {"gpuworker.engine", "gpuworker.engines"},
    "gpuworker/engine.py": set(),
    "ops": {"bus", "gateway.settings", "gpuworker.settings", "ops"},
    # The commands that are these processes.
    "ops/cli.py": {"bus", "gateway.settings", "gateway.serve", "gpuworker.settings", "gpuworker.serve", "ops"},
}
#: Libraries to the path prefixes that own them.
OWNED = {
    "nats": ("bus/",),
    "structlog": ("bus/telemetry.py",),
    "prometheus_client": ("bus/metrics.py",),
    "jsonschema": ("bus/params.py",),
    "aiohttp": ("gateway/", "ops/"),
    "av": ("gateway/codecs/",),
    "jwt": ("gateway/access/tokens.py",),
    "cryptography": ("gateway/access/tokens.py",),
    "numpy": ("gpuworker/",),
    "torch": ("gpuworker/engines/",),
    "typer": ("ops/",),
    "rich": ("ops/",),
    "uvloop": ("ops/",),
}
#: What a process must not have loaded, whoever imports it: modules to import, libraries that must be absent after.
NEVER_LOADS = [
    ("gateway.serve", ("torch", "numpy", "av", "jwt", "gpuworker.worker", "gpuworker.engine")),
    ("gpuworker.serve", ("torch", "gateway", "prometheus_client")),
    ("gpuworker.child", ("torch", "gateway", "nats", "aiohttp", "prometheus_client")),
    ("ops.cli", ("torch", "numpy", "aiohttp", "nats", "uvloop", "structlog", "prometheus_client")),
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


@pytest.mark.parametrize(
    ("path", "statement"),
    [
        ("bus/wire.py", "import gateway.serve"),
        ("bus/wire.py", "import numpy"),
        ("gateway/app.py", "from gpuworker import engine"),
        ("gateway/app.py", "import nats"),
        ("gateway/sound/audio.py", "import av"),
        ("gpuworker/worker.py", "import torch"),
        ("gpuworker/worker.py", "from gateway.app import run"),
        ("gpuworker/engines/tone.py", "from bus import wire"),
        ("gpuworker/engines/tone.py", "from gpuworker import worker"),
        ("gpuworker/engine.py", "from gpuworker.engines import tone"),
        ("ops/doctor.py", "from gateway import app"),
        ("bus/wire.py", "import structlog"),
        ("gateway/metrics.py", "import prometheus_client"),
        ("ops/up.py", "from tests.support import nats"),
    ],
)
def test_the_table_refuses(path: str, statement: str) -> None:
    assert not all(allowed(path, module) for _, module in imports(ast.parse(statement)))


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
