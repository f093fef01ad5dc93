"""Problems as NATS services report errors: the headers of ADR-32."""

from typing import Final

from gateway.http.problems import Problem

_MAX_HEADER_CHARS: Final = 500


def error_headers(problem: Problem, status: int | None = None) -> dict[str, str]:
    """`Nats-Service-Error`, one printable line, and `Nats-Service-Error-Code`: `status`, or the problem's own."""
    text = "".join(char if char.isprintable() else " " for char in problem.detail)[:_MAX_HEADER_CHARS]
    return {
        "Nats-Service-Error": text or problem.title,
        "Nats-Service-Error-Code": str(problem.status if status is None else status),
    }
