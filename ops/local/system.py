"""Facts of the operating system: free ports, the command line of `antiphon`, the limit of open files."""

import contextlib
import resource
import shlex
import shutil
import socket
import sys
import sysconfig
from pathlib import Path


def port_is_free(host: str, port: int) -> bool:
    """Whether `host:port` could be bound just now. Port 0 is always free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str) -> int:
    """A port of `host` that nothing listens on at this moment; another process may still win it."""
    return free_ports(host, 1)[0]


def free_ports(host: str, count: int) -> list[int]:
    """`count` different ports of `host` that nothing listens on at this moment."""
    with contextlib.ExitStack() as probes:
        ports = []
        for _ in range(count):
            probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            probes.enter_context(probe).bind((host, 0))
            ports.append(int(probe.getsockname()[1]))
    return ports


def ourselves() -> list[str]:
    """The command line of `antiphon` in this environment; by module in a checkout that is not installed.

    The script is preferred: `python -m` would look in the current folder first, and `ops` and `bus` are common names.
    """
    script = Path(sysconfig.get_path("scripts")) / "antiphon"
    return [sys.executable, str(script)] if script.exists() else [sys.executable, "-m", "ops.cli.main"]


def called() -> str:
    """The shortest command by which a person calls `antiphon` of this environment from the current folder."""
    script = Path(sysconfig.get_path("scripts")) / "antiphon"
    if not script.exists():
        return shlex.join(ourselves())
    if (found := shutil.which("antiphon")) and Path(found).samefile(script):
        return "antiphon"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


def raise_file_limit() -> int:
    """Raise RLIMIT_NOFILE to the hard limit, for this process and its children; returns the soft limit in force.

    macOS refuses an unlimited one: there the limit stays as it was.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft
