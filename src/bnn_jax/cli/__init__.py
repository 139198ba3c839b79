"""The command `bnn-jax`: reads the command line and calls `bnn_jax.experiment`.

Exit codes: 0, success; 2, the config, the arguments or the data are wrong or a package is missing,
with one line on stderr and nothing written; 130, interrupted.
"""

import sys
from collections.abc import Sequence

from bnn_jax._extras import MissingExtra, optional_import

BAD_INPUT, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Args:
        arguments: the arguments after `bnn-jax`; None uses those of the process.
    """
    try:
        with optional_import("The command bnn-jax"):
            import click

            from bnn_jax.cli.commands import cli
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
    except (click.ClickException, ConfigError, MissingExtra) as error:
        return _fail(str(error))
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return BAD_INPUT
