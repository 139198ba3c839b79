"""Mutated configs: each is accepted, or refused in one line, with nothing written.

There are more in `scripts/faults/mutate_configs.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import config_mutations
import config_outcomes
import pytest
from config_mutations import BASES, Mutation, dumped

COUNT = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("mutated")
    config_outcomes.write_files(path)
    with pytest.MonkeyPatch.context() as patch, config_outcomes.stopped_before_training():
        patch.chdir(path)
        yield path


def test_the_config_without_a_mutation_is_accepted(folder: Path) -> None:
    for base in BASES:
        found = config_outcomes.outcome(Mutation("", dumped(base).encode(), ()), folder)
        assert found.result == "accepted", found


@pytest.mark.parametrize("first", range(0, COUNT, 50))
def test_mutated_configs_are_accepted_or_refused_in_one_line(first: int, folder: Path) -> None:
    # Numbers far from those of the script, so that there are others.
    failed, refused = [], 0
    for number in range(10**6 + first, 10**6 + first + 50):
        mutated = config_mutations.mutation(number)
        found = config_outcomes.outcome(mutated, folder)
        refused += found.result == "refused"
        if found.result not in ("accepted", "refused"):
            failed.append((number, mutated.kind, mutated.arguments, found))
    assert not failed
    assert refused > 20


# An override, and words of the message.
REFUSED = {
    "bool": ("evaluation.antithetic=!!bool maybe", "the tag .* must be left out"),
    "empty int": ('training.epochs=!!int ""', "the tag"),
    "empty float": ('prior.std=!!float ""', "the tag"),
    "timestamp": ("seed=!!timestamp x", "the tag"),
    "map of a list": ("prior=!!map [a]", "the tag"),
    "python": ("seed=!!python/object/apply:os.getcwd []", "the tag"),
    "own alias": ("model.hidden=&a [*a]", "alias"),
    "depth": (f"model.hidden={'[' * 100}1{']' * 100}", "nested at most 20 levels"),
    "aliases": (
        "model.hidden=[&a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1], "
        + "".join(f"&{'bcdefgh'[i]} [{', '.join(['*' + 'abcdefgh'[i]] * 10)}], " for i in range(7))
        + "1]",
        "at most 20000 values",
    ),
    "long text": (f"data.name={'x' * 200_000}", "at most 131072 bytes"),
    "NUL": ('output.dir="a\\0b"', "control character"),
    "escape": ('data.name="\\e[31mred"', "control character"),
    "no such user": ("output.dir=~nosuchuser/x", "user that exists"),
    "long name": (f"output.dir={'x' * 300}", "names of at most 255 bytes"),
    "long path": (f"output.dir={'/'.join(['x' * 100] * 40)}", "at most 3500 bytes"),
    "epochs": ("training.epochs=1e300", "at most 1000000000, got 1e\\+300"),
    "steps": ("training.epochs=1e9", "more than 2147483647 steps"),
    "train samples": ("objective.num_samples=100000000", "at most 1000, got 100000000"),
    "samples": ("evaluation.num_samples=2e6", "at most 1000000, got"),
    "bins": ("evaluation.ece_bins=1e18", "at most 10000"),
    "width": ("model.hidden=[1e9, 1e9]", "does not fit the memory.*make the network smaller"),
    "depth of a network": (f"model.hidden={[1] * 1001}", "a list of at most 1000 numbers"),
    "image size": ("data.image_size=1e6", "at least .* of memory"),
    "padding": ("data.padding=1e8", "lower data.padding"),
    "std": ("prior.std=1e-320", "of a size from 1e-37 to 1e\\+37"),
    "float": ("optimizer.learning_rate=1e300", "of a size from 1e-37 to 1e\\+37"),
    "cycles": ("objective.kl_schedule={name: cyclical, cycles: 1e8}", "at most the 8 steps"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_what_is_wrong(case: str, folder: Path) -> None:
    import re

    override, words = REFUSED[case]
    found = config_outcomes.outcome(Mutation("", dumped(BASES[0]).encode(), (override,)), folder)
    assert found.result == "refused", found
    assert re.search(words, found.line), found.line


def test_of_many_unknown_keys_ten_are_listed(folder: Path) -> None:
    text = dumped(
        {**BASES[0], "prior": {"name": "normal", "std": 1.0, **{f"k{i}": i for i in range(5000)}}}
    )
    found = config_outcomes.outcome(Mutation("", text.encode(), ()), folder)
    assert found.result == "refused", found
    assert found.line.count("unknown key") == 10
    assert "and 4990 more" in found.line
