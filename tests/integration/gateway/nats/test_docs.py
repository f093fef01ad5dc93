"""docs/nats.md: every command on it is run, and prints what the page says."""

import shutil

from tests.support.nats_page import PAGE, blocks, plain, shell


def test_every_command_of_the_page_prints_what_the_page_says() -> None:
    told = [each for block in blocks(PAGE.read_text()) for each in block]
    assert len(told) >= 12
    if shutil.which("jq") is None:  # the pipe itself has a test of its own that needs no jq
        told = [(command, output) for command, output in told if "| jq " not in command]
    with shell() as opened:
        for command, output in told:
            assert plain(opened.run(command).rstrip()) == plain(output.rstrip()), command
