"""docs/nats.md: every command on it is run, and prints the output that the page shows."""

import shutil

import pytest

from tests.support.nats_page import PAGE, blocks, plain, shell

pytestmark = pytest.mark.slow


def test_every_command_of_the_page_prints_the_output_of_the_page() -> None:
    printed = [each for block in blocks(PAGE.read_text()) for each in block]
    assert len(printed) >= 12
    if shutil.which("jq") is None:  # the pipe itself has a test of its own that needs no jq
        printed = [(command, output) for command, output in printed if "| jq " not in command]
    with shell() as opened:
        for command, output in printed:
            assert plain(opened.run(command).rstrip()) == plain(output.rstrip()), command
