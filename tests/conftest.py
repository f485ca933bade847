"""One thread: tests are small, and the machine may be shared. Signals do what they do at a terminal."""

import signal

import torch

torch.set_num_threads(1)
for number in ("SIGINT", "SIGTERM", "SIGHUP"):  # nohup and a shell's background jobs ignore some
    if hasattr(signal, number):
        signal.signal(getattr(signal, number), signal.default_int_handler if number == "SIGINT" else signal.SIG_DFL)
