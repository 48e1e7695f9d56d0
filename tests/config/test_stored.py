from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from distdqn.config import ConfigError, RunConfig, to_mapping
from distdqn.config.stored import load_config


@pytest.fixture
def run(tmp_path: Path) -> Path:
    values = to_mapping(RunConfig())
    values["env"] |= {"kind": "gym", "kwargs": {"gravity": 3.5, "wind": True}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def test_overrides_mean_what_they_mean_to_train(run: Path) -> None:
    texts = ["learner.batch_size=64", "learner.compile=on", "learner.optimizer.max_grad_norm=null", "env.hide=[1,3]"]
    config = load_config(run, texts)
    assert (config.learner.batch_size, config.learner.compile, config.env.hide) == (64, "on", (1, 3))
    assert config.learner.optimizer.max_grad_norm is None and config.run_dir == str(run)


def test_a_group_of_keys_is_added_to_and_taken_from(run: Path) -> None:
    assert load_config(run, ["env.kwargs={a: 1}"]).env.kwargs == {"gravity": 3.5, "wind": True, "a": 1}
    assert load_config(run, ["~env.kwargs.wind", "+env.kwargs.b=2"]).env.kwargs == {"gravity": 3.5, "b": 2}


def test_a_choice_of_one_key_is_that_key(run: Path) -> None:
    config = load_config(run, ["engine=local", "track=offline", "track.tags=[a,b]"])
    assert (config.engine.kind, config.track.mode, config.track.tags) == ("local", "offline", ("a", "b"))
    assert config.track.group == "" and load_config(run, ["track={group: g}"]).track.group == "g"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("learner.batchsize=3", "learner.batchsize: unknown key, allowed here: "),
        ("learner.step_size=1", "learner.step_size: is now learner.optimizer.learning_rate"),
        ("learner.batch_size=0", "learner.batch_size=0: must be"),
        ("learner.batch_size=1,2", "learner.batch_size=1,2: one value only"),
        ("learner.batch_size.more=3", "learner.batch_size"),
        ("agent=mlp", "agent=mlp: must be a group of keys"),
        ("track=sometimes", "track.mode=sometimes: must be one of auto, online, offline, disabled"),
        ("track.tags=['']", "track.tags=('',): must be texts of 1 to 64 characters"),
        ("track.tags=[1]", "must be a list of texts"),
        ("metrics_port=70000", "metrics_port=70000: must be a whole number from 0 to 65535 or null"),
        ("metrics_host=''", "metrics_host=: must be an address or a host's name"),
        ("~nothing.there", "~nothing.there: there is no such key"),
        ("further", "further: not an override"),
    ],
)
def test_what_cannot_be_is_one_line(run: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(run, [text])
    assert named in str(caught.value) and "\n" not in str(caught.value)
