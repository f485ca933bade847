"""One thread: tests are small, and the machine may be shared. Signals do what they do at a terminal, in every test."""

import signal

import pytest
import torch

torch.set_num_threads(1)
HANDLERS = {  # nohup and a shell's background jobs ignore some of them
    number: signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if (number := getattr(signal, name, None)) is not None
}


@pytest.fixture(autouse=True)
def _signals() -> None:
    """A test of the command as a whole process ignores signals at its end, as the last thing of the process."""
    for number, handler in HANDLERS.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
