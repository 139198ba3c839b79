"""Configs: valid and invalid files and overrides, and the error messages."""

from pathlib import Path

import pytest

from bnn_jax import config
from bnn_jax.config import yaml_text
from bnn_jax.config.data import (
    BlundellCurve,
    Categorical,
    HeteroscedasticCurve,
    ImageData,
    Normal,
    StudentT,
)
from bnn_jax.config.schema import ConfigError
from bnn_jax.config.sections import MLP
from bnn_jax.config.types import estimator_of

CONFIGS = Path(__file__).parents[2] / "configs"
LENET = CONFIGS / "lenet5.yaml"
CURVE = CONFIGS / "heteroscedastic_curve.yaml"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_config_loads_and_its_dump_loads_unchanged(path: Path, tmp_path: Path) -> None:
    settings = config.load(path)
    copy = tmp_path / "config.yaml"
    copy.write_text(config.dump(settings))
    again = config.load(copy)
    assert again == settings
    assert config.dump(again) == config.dump(settings)


@pytest.mark.parametrize(
    "override",
    [
        "model={name: mlp, hidden: [400, 400]}",
        "prior={name: student_t, df: 3, scale: 0.1}",
        "prior={name: laplace, scale: 1.0e-30}",
        "posterior={mean_init: normal}",
        "posterior.where=[conv1/*, fc1/kernel]",
        "estimator={'conv*': flipout, '*': local_reparam}",
        "objective={dnn_factor: 60000, bnn_factor: 1e-6}",
        "objective.kl_schedule={name: cyclical, cycles: 4}",
        "data.mean=[0.1, 0.2, 0.3]",
        "output.dir=1e-3/true",
        "output.dir='010'",
        "output.dir='été: null'",
    ],
)
def test_the_dump_keeps_every_kind_of_value(override: str, tmp_path: Path) -> None:
    settings = config.load(LENET, [override])
    assert settings != config.load(LENET)
    copy = tmp_path / "config.yaml"
    copy.write_text(config.dump(settings))
    assert config.load(copy) == settings


@pytest.mark.parametrize(
    "override",
    [
        "data={name: blundell_curve, train_examples: 50, test_examples: 1}",
        "likelihood={name: normal, std: 0.1}",
        "likelihood={name: student_t, df: 2.5}",
        "likelihood={name: student_t, df: 4, scale: 1}",
    ],
)
def test_the_dump_keeps_the_settings_of_a_curve(override: str, tmp_path: Path) -> None:
    settings = config.load(CURVE, [override])
    assert settings != config.load(CURVE)
    copy = tmp_path / "config.yaml"
    copy.write_text(config.dump(settings))
    assert config.load(copy) == settings


def test_the_name_of_the_data_selects_its_section() -> None:
    assert isinstance(config.load(LENET).data, ImageData)
    assert isinstance(config.load(LENET, ["data.name=svhn_cropped"]).data, ImageData)
    assert isinstance(config.load(CURVE).data, HeteroscedasticCurve)
    assert isinstance(config.load(CONFIGS / "blundell_curve.yaml").data, BlundellCurve)


def test_images_have_classes_by_default() -> None:
    assert isinstance(config.load(LENET).likelihood, Categorical)
    assert "likelihood" not in LENET.read_text()


def test_predicted_noise_needs_a_second_output() -> None:
    assert Normal(name="normal").num_outputs == StudentT(name="student_t", df=3).num_outputs == 2
    assert Normal(name="normal", std=1).num_outputs == 1
    assert StudentT(name="student_t", df=3, scale=1).num_outputs == 1


def test_overrides_are_yaml_and_the_last_one_applies() -> None:
    settings = config.load(
        LENET,
        [
            "optimizer.learning_rate=1e-3",
            "training.epochs=7",
            "training.epochs=1e1",
            "data.manual_dir=~/files",
            "output.dir=2026-01-31",
            "model={name: mlp, hidden: [3, 2]}",
            "model.hidden=[400,400]",
            "estimator=flipout",
            "data.train_examples=null",
        ],
    )
    assert settings.optimizer.learning_rate == 1e-3
    assert settings.training.epochs == 10
    assert isinstance(settings.training.epochs, int)
    assert settings.data.manual_dir == Path.home() / "files"
    assert settings.output.dir == Path("2026-01-31")
    assert isinstance(settings.model, MLP)
    assert settings.model.hidden == (400, 400)
    assert settings.estimator == "flipout"


def test_settings_cannot_be_changed() -> None:
    settings = config.load(LENET)
    with pytest.raises(ValueError, match="frozen"):
        settings.training.epochs = 3  # type: ignore[misc]


def test_the_mean_std_has_its_default_only_where_it_is_used() -> None:
    assert config.load(LENET).posterior.mean_std is None
    assert config.load(LENET, ["posterior={mean_init: normal}"]).posterior.mean_std == 0.1


def test_the_first_pattern_that_matches_gives_the_estimator() -> None:
    settings = config.load(LENET, ["estimator={'conv*': flipout, 'fc3/*': reparam}"])
    named = {
        w: estimator_of(settings.estimator, w) for w in ("conv1/kernel", "fc3/kernel", "fc1/kernel")
    }
    assert named == {"conv1/kernel": "flipout", "fc3/kernel": "reparam", "fc1/kernel": "reparam"}
    assert (
        estimator_of(config.load(LENET, ["estimator=flipout"]).estimator, "fc1/kernel") == "flipout"
    )


def test_local_reparam_is_rejected_only_for_random_convolutions() -> None:
    settings = config.load(LENET, ["estimator=local_reparam", "posterior.where=['fc*']"])
    assert estimator_of(settings.estimator, "fc1/kernel") == "local_reparam"


def test_the_blundell_config_divides_pixels_by_126() -> None:
    data = config.load(CONFIGS / "mlp_mnist.yaml").data
    assert isinstance(data, ImageData)
    assert data.std == pytest.approx(126 / 255, rel=1e-6)


def test_plain_values_follow_the_core_schema() -> None:
    text = "[1e-3, 1E3, .5, 2., -2, 010, 1:30, no, 2026-01-31, ~, null, true, '', '1', 1_000, 0x10]"
    values = yaml_text.parse(text, source="test")
    assert values == [
        *(0.001, 1000.0, 0.5, 2.0, -2, 10.0, "1:30", "no", "2026-01-31"),
        *(None, None, True, "", "1", "1_000", "0x10"),
    ]
    assert yaml_text.parse(yaml_text.write(values), source="test") == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 0\nseed: 1", ["line 2", "'seed' is already on line 1"]),
        ("data: {name: x, name: y}", ["line 1", "'name'"]),
        ("data: [1", ["line 1", "expected"]),
        ("", ["is empty", "optimizer"]),
        ("- 1", ["must hold sections"]),
        (
            "x: !!python/object:os.system y",
            ["line 1", "the tag !!python/object:os.system must be left out"],
        ),
        ("x: !!float y", ["line 1", "the tag !!float must be left out"]),
        ("a: 1\n---\nb: 1", ["line 2", "another document"]),
        ("a: \udcff", ["not readable as YAML"]),
        ("[" * 5000, ["at most 20 levels deep"]),
        ("training: &a [*a]", ["the alias *a must not be within its own anchor"]),
    ],
)
def test_a_file_that_is_not_a_config_is_rejected(
    text: str, words: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_error_for_a_missing_file_suggests_a_similar_name(tmp_path: Path) -> None:
    (tmp_path / "lenet5.yaml").touch()
    with pytest.raises(ConfigError, match=r"no config file .*lenet5\.yml, did you mean .*\.yaml"):
        config.load(tmp_path / "lenet5.yml")
    with pytest.raises(ConfigError, match="Is a directory"):
        config.load(tmp_path)


def test_one_line_reports_every_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(LENET, ["training.epochs=0", "optimizer.learning_rat=1", "prior.name=norm"])
    message = str(caught.value)
    for word in ("'training.epochs'", "did you mean 'learning_rate'", "'prior.name'"):
        assert word in message


def test_a_misspelled_key_is_not_also_reported_as_missing(tmp_path: Path) -> None:
    text = LENET.read_text().replace("learning_rate:", "learning_rat:")
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert "did you mean 'learning_rate'?" in str(caught.value)
    assert "missing" not in str(caught.value)


@pytest.mark.parametrize("override", ["training.epochs=3", "seed=1"])
def test_only_the_given_sections_can_be_overridden(override: str) -> None:
    with pytest.raises(ConfigError, match=r"only evaluation can be changed here, such as"):
        config.load(LENET, [override], sections=["evaluation"])
    changed = config.load(LENET, ["evaluation.num_samples=3"], sections=["evaluation"])
    assert changed.evaluation.num_samples == 3


def test_parts_of_a_batch_must_divide_it() -> None:
    assert config.load(LENET, ["training.accumulate_steps=4"]).training.accumulate_steps == 4
    with pytest.raises(
        ConfigError, match=r"accumulate_steps \(3\) must divide training.batch_size"
    ):
        config.load(LENET, ["training.accumulate_steps=3"])
