"""What training shows while it runs: a progress bar in a terminal, elsewhere a line per epoch."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """Shows the steps of an epoch, and then its numbers. Writes to stderr.

    The bar needs tqdm; without it, only the line per epoch is shown.
    """

    def __init__(self, *, epochs: int, steps: int, name: str, quiet: bool = False) -> None:
        self.epochs, self.steps, self.name, self.quiet = epochs, steps, name, quiet
        self.visible = not quiet and sys.stderr.isatty() and find_spec("tqdm") is not None
        self.bar: tqdm | None = None

    def start(self, epoch: int, step: int) -> None:
        if self.visible:
            from tqdm import tqdm

            self.bar = tqdm(
                total=self.steps,
                initial=step,
                desc=f"{self.name} {epoch}/{self.epochs}",
                unit="step",
                leave=False,
                dynamic_ncols=True,
            )

    def advance(self, steps: int, numbers: Mapping[str, float] | None) -> None:
        if self.bar is not None:
            self.bar.update(steps)
            if numbers is not None:
                self.bar.set_postfix_str(as_text(numbers))

    def finish(self, epoch: int, numbers: Mapping[str, float], examples_per_second: float) -> None:
        self.stop()
        if self.quiet:
            return
        line = f"{self.name} {epoch}/{self.epochs}  {as_text(numbers)}"
        print(f"{line}  {examples_per_second:,.0f} examples/s", file=sys.stderr, flush=True)

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def as_text(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
