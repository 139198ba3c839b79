"""Ctrl-C and requests to terminate as a question that training asks between two steps.

A step gives its state's memory away, so it must not be cut off in the middle.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupts:
    """Whether the process was asked to stop.

    Attributes:
        signal: the first signal that arrived, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._saving = 0
        self._again = False

    def __call__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Lets a write finish: a second signal raises KeyboardInterrupt after it, not within it."""
        self._saving += 1
        try:
            yield
        finally:
            self._saving -= 1
        if self._again and not self._saving:
            self._again = False
            raise KeyboardInterrupt

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
        elif self._saving:
            self._again = True
        else:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Turns SIGINT, SIGTERM, SIGHUP and SIGQUIT into a question: was there one?

    The second signal raises KeyboardInterrupt at once, or after the write that is under way.
    Signals that are ignored (as SIGHUP is under nohup) stay ignored. In other threads than the
    main one no signal is handled.
    """
    asked = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # None is a handler that Python cannot restore.
    handled = [n for n, previous in before.items() if previous not in (None, signal.SIG_IGN)]
    for number in handled:
        signal.signal(number, asked._handle)
    try:
        yield asked
    finally:
        for number in handled:
            signal.signal(number, before[number])
