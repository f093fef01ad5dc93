"""Pages of docs/ that are made from the code: `make docs` writes them, a test holds them."""

from pathlib import Path

from bus.events import EVENTS

_BEGIN = "<!-- events: made by `make docs` from bus/events.py -->\n"
_END = "<!-- end of events -->\n"


def telemetry_page(page: str) -> str:
    """`page` with its table of events as the code has it. Raises ValueError if its two marks are not there."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError("docs/telemetry.md has lost the marks around its table of events")
    rows = [
        f"| `{name}` | {event.meaning} | {', '.join(f'`{f}`' for f in event.fields)} |"
        for name, event in EVENTS.items()
    ]
    table = "\n".join(["| event | what it means | fields |", "| --- | --- | --- |", *rows])
    return f"{before}{begin}\n{table}\n\n{end}{after}"


if __name__ == "__main__":
    path = Path("docs/telemetry.md")
    path.write_text(telemetry_page(path.read_text()))
