"""The command `bnn-jax`: reads the command line and calls `bnn_jax.experiment`.

Exit codes: 0, success; 2, the config, the arguments, the data or the user's code are wrong or a
package is missing, and nothing was written; 3, training diverged; 4, a file could not be written;
5, the deterministic baseline is incomplete; 6, another process of the run has ended; 130,
interrupted. Errors are one line on stderr.
"""

import sys
from collections.abc import Sequence

from bnn_jax._extras import MissingExtra, optional_import

BAD_INPUT, INTERRUPTED = 2, 130
MAX_LINE = 2000  # characters of an error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        arguments: the arguments after `bnn-jax`; None uses those of the process.
    """
    try:
        with optional_import("The command bnn-jax"):
            import click

            from bnn_jax.cli.commands import cli
            from bnn_jax.cli.errors import Failure
            from bnn_jax.config.errors import ConfigError
    except MissingExtra as error:
        return _fail(str(error))
    try:
        cli.main(args=arguments, prog_name="bnn-jax", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "bnn-jax"
        return _fail(f"{error.format_message().rstrip('.')}: see {command} --help")
    except Failure as error:
        return _fail(str(error), error.code)
    except (click.ClickException, ConfigError, MissingExtra) as error:
        return _fail(str(error))
    return 0


def _fail(message: str, code: int = BAD_INPUT) -> int:
    line = " ".join(message.split())
    line = line if len(line) <= MAX_LINE else line[: MAX_LINE - 3] + "..."
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    print(f"error: {line}", file=sys.stderr)
    return code
