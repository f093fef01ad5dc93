"""Numbers in query strings."""

from aiohttp import web

from bus.errors import Invalid
from bus.params import short


def integer(request: web.Request, name: str, least: int, most: int) -> int | None:
    """The query parameter `name` as an integer; None if it is absent. Raises Invalid outside `least` to `most`."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise Invalid(f"{name}: must be a whole number from {least} to {most}, not {short(text)!r}", name)
    return int(text)
