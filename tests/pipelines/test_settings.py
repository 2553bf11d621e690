"""Settings by their dotted names, and YAML that stands for more than it seems."""

from pathlib import Path

import pytest
import yaml

from pipelines.settings import check_run_dir, checked_name, difference, parse_yaml, read_yaml


def test_settings_may_change_by_their_whole_name_only() -> None:
    old = {"trainer": {"devices": 1}, "model": {"scheduler": {"mode": "min", "devices": 1}}, "wandb": {"mode": "x"}}
    new = parse_yaml(yaml.safe_dump(old))
    new["trainer"]["devices"], new["wandb"]["mode"] = 2, "y"
    assert difference(old, new, ("trainer.devices", "wandb")) == ""
    new["model"]["scheduler"]["mode"] = "max"
    assert difference(old, new, ("trainer.devices", "wandb.mode")) == "model.scheduler.mode: 'min' then, 'max' now"
    assert difference({"cycles_of": 1, "cycles": 3}, {"cycles_of": 2}, ("cycles",)) == "cycles_of: 1 then, 2 now"


def test_what_is_null_or_empty_is_as_good_as_not_there() -> None:
    assert difference({"a": None, "b": {}, "c": []}, {}) == ""
    assert difference({"a": float("nan")}, {"a": float("nan")}) == ""
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == "a.1.b: 2 then, 3 now"
    assert difference({"a": [1]}, {"a": [1, 2]}) == "a.1: None then, 2 now"
    assert difference({"a": 1}, {}) == "a: 1 then, None now"


def test_aliases_are_fine_while_they_stand_for_little(tmp_path: Path) -> None:
    assert parse_yaml("a: &a [1, 2]\nb: {c: *a, d: *a}") == {"a": [1, 2], "b": {"c": [1, 2], "d": [1, 2]}}
    assert parse_yaml("glob: runs/*/a&b") == {"glob": "runs/*/a&b"}
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(ValueError, match=r"a\.yaml is not readable YAML \(expected names with values, got list\)"):
        read_yaml(tmp_path / "a.yaml")


def test_names() -> None:
    assert check_run_dir("runs/ä b/c=1") == Path("runs/ä b/c=1")
    for text in ("", "  ", "a\nb", "a\x00", "a\u2028b", "a\udcff"):
        with pytest.raises(ValueError, match="--partition must be a name"):
            checked_name("--partition", text)
