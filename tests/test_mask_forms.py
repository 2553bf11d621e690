"""Masks of any form, typed as a user does: refused with the setting, and with it the same as class indices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import cli
from datamodules.sources.synthetic import draw_scene
from records.run_directory import RunDirectory

CONFIG = """
seed_everything: 1
model:
  class_path: lightning_modules.segmentation.SegmentationModule
  init_args:
    network: {class_path: lightning_modules.networks.FCN8s, init_args: {width: 0.03, batch_norm: true}}
data:
  source: {class_path: datamodules.sources.folder.Folder, init_args: {root: data, val_fraction: 0.4}}
  DATA
strategy: {acquisition: {class_path: acquisition.functions.Random}, budget: 2, pictures: 0}
trainer: {max_epochs: 1, accelerator: cpu, enable_model_summary: false}
wandb: {mode: disabled}
"""
PALETTE = np.array([[0, 0, 0], [128, 64, 128]], np.uint8)
FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "indices": lambda mask: mask,
    "binary": lambda mask: mask * 255,
    "colour": lambda mask: PALETTE[mask],
    "wide": lambda mask: mask.astype(np.uint16) * 65_535,
}
SETTINGS = {
    "binary": "{0: 0, 255: 1}", "colour": "{[0, 0, 0]: background, [128, 64, 128]: road}", "wide": "{0: 0, 65535: 1}",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(form: str, data: str = "") -> None:
    """The folder `data` with masks of a form, and config.yaml."""
    for i in range(8):
        image, mask = draw_scene(i, 32, 48)
        for folder, pixels in (("images", image), ("masks", FORMS[form](np.minimum(mask, 1)))):
            Path("data", folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(f"data/{folder}/{i}.png")
    Path("data/classes.txt").write_text("background\nroad\n")
    Path("config.yaml").write_text(CONFIG.replace("DATA", data))


def fit(run_dir: str, *arguments: str) -> pd.DataFrame:
    cli.main(["fit", "--config", "config.yaml", "--run_dir", run_dir, *arguments])
    return pd.read_csv(RunDirectory(Path(run_dir)).learning_curve)


def test_every_form_is_refused_with_its_setting_and_learned_alike_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    write("indices")
    expected = fit("indices")
    for form, setting in SETTINGS.items():
        write(form)
        with pytest.raises(SystemExit):
            fit(form)
        assert f"set data.mask_values to '{setting}'" in capsys.readouterr().err
        if form == "colour":
            # in the YAML
            write(form, f"mask_values: {setting}")
            found = fit(form)
        else:
            found = fit(form, "--data.mask_values", setting)
        pd.testing.assert_frame_equal(found, expected)
    kept = yaml.safe_load(Path("colour/config.yaml").read_text())
    assert kept["data"]["mask_values"] == {"0,0,0": "background", "128,64,128": "road"}
    assert kept["model"]["init_args"]["network"]["init_args"]["num_classes"] == 2
    with pytest.raises(SystemExit):
        fit("colour", "--data.mask_values", '{"0,0,0": 1, "128,64,128": 0}')
    assert "colour belongs to an experiment with other settings (data.mask_values" in capsys.readouterr().err


def test_people_draw_parts_of_images_in_their_own_colours() -> None:
    people = (
        "oracle: {class_path: datamodules.oracle.FolderOracle, init_args: {folder: drawn}}\n"
        "  partition: {class_path: datamodules.partitions.Grid, init_args: {height: 16, width: 24}}\n"
        "  mask_values: {[0, 0, 0]: background, '#804080': road}"
    )
    write("colour", people)
    Path("drawn").mkdir()
    cli.main(["query", "--config", "config.yaml", "--run_dir", "run"])
    for path in sorted(RunDirectory(Path("run")).cycle(0).to_draw.glob("*.png")):
        mask = np.asarray(Image.open(path))
        assert mask.shape == (32, 48, 3)
        assert (mask == 254).all()
        done = np.asarray(Image.open(f"data/masks/{path.name}"))
        asked = np.asarray(Image.open(RunDirectory(Path("run")).cycle(0).region_map(path.stem))) > 0
        Image.fromarray(np.where(asked[..., None], done, mask)).save(f"drawn/{path.name}")
    curve = fit("run", "--cycles", "2")
    assert curve["labelled_units"].tolist() == [2]
    best = str(RunDirectory(Path("run")).cycle(1).best)
    cli.main(["predict", "--config", "config.yaml", "--run_dir", "run", "--ckpt_path", best])
    predicted = [np.asarray(Image.open(path)) for path in RunDirectory(Path("run")).predictions.glob("*.png")]
    assert predicted
    assert {tuple(colour) for mask in predicted for colour in mask.reshape(-1, 3)} <= {(0, 0, 0), (128, 64, 128)}
