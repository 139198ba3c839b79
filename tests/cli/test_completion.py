"""Shell completion, as the shells call it."""

import os
import subprocess
import sys


def completed(*words: str) -> list[str]:
    """Returns what bash would offer for the last word."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from bnn_jax.cli import main; sys.exit(main())"],
        env={
            **os.environ,
            "_BNN_JAX_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["bnn-jax", *words]),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_options_and_files_are_completed() -> None:
    assert completed("ex") == ["plain,export"]
    assert "plain,--format" in completed("export", "run", "--f")
    assert completed("train", "conf") == ["file,conf"]
