"""A processor of replay messages in the foreground: the process itself, and what it is told of signals."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import FrameType

from pipeline.machine.modules import module_command

PROCESSOR_PAGE_NUMBER = "PROCESSOR_PAGE_NUMBER"  # of one in a stack: its page for Prometheus is at metrics.prometheus_port plus this
PROCESSOR = module_command("consumers.sqs")


def run_processor(environment: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run a processor until it ends; SIGINT and SIGTERM are passed on. Return its exit code.

    Args:
        environment: all of it.
        arguments: `--drain` or nothing.
    """
    with subprocess.Popen((*PROCESSOR, *arguments), env=environment) as child:

        def pass_on(number: int, _frame: FrameType | None) -> None:
            child.send_signal(number)  # a second one from the terminal itself does no harm

        before = {one: signal.signal(one, pass_on) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            return child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
