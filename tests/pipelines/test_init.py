"""Settings to begin with: each is written, and runs on images of the layout that its head describes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import cli
from datamodules.sources.synthetic import draw_scene
from pipelines.init import TEMPLATES, init

TASKS = sorted(path.stem for path in TEMPLATES.glob("*.yaml"))
TINY = [
    "--data.image_size=[32,32]", "--data.crop_size=[32,32]", "--data.num_workers=0", "--model.network.weights=null",
    "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--trainer.accelerator=cpu",
    "--wandb.mode=disabled", "--strategy.predictor.num_samples=2", "--strategy.pictures=0", "--strategy.budget=2",
]  # fmt: skip


def draw(task: str, root: Path) -> None:
    """Twelve images as the template's head says that they lie."""
    for number in range(12):
        image, mask = draw_scene(number, 32, 32)
        binary = (mask == 1).astype(np.uint8)
        files = {f"images/a{number}.png": image, f"masks/a{number}.png": binary}
        if task == "classification":
            files = {f"{('cat', 'dog', 'unlabelled')[number % 3]}/a{number}.png": image}
        elif task == "annotators":
            people = {f"masks/{p}/a{number}.png": np.roll(binary, i, 1) * 255 for i, p in enumerate(("anna", "ben"))}
            files = {f"images/a{number}.png": image, **people}
        for name, pixels in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / name)
    if task != "classification":
        (root / "classes.txt").write_text("other\ncar\n")


@pytest.mark.parametrize("task", TASKS)
def test_a_template_runs_on_images_laid_out_as_it_says(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(task, tmp_path / "my scenes")
    cli.main(["init", task, "--root", "my scenes"])
    assert f"{task}.yaml" in capsys.readouterr().out
    text = (tmp_path / f"{task}.yaml").read_text()
    typed = next(line for line in text.splitlines() if line.startswith("# Next:") or f"--config {task}.yaml" in line)
    verb = typed.split("dropquery ")[1].split()[0]
    command = [verb, "--config", f"{task}.yaml", *TINY]
    if task != "annotators":
        command.append("--data.source.val_fraction=0.4")
    match task:
        case "study":
            command += ["--data.initial.size=2", "--cycles=1", "--grid.stacked=false"]
            jobs = cli.jobs_of(command)
            assert len(jobs) == 9
            command = list(jobs[0].arguments)
        case "annotators":
            jobs = cli.jobs_of(command)
            assert len(jobs) == 9
            command = list(jobs[0].arguments)
        case _:
            command = ["fit", *command[1:]]
    cli.main(command)
    assert list(tmp_path.rglob("best.ckpt"))


@pytest.mark.parametrize("task", TASKS)
def test_every_line_of_a_template_says_what_it_is_for(task: str) -> None:
    text = (TEMPLATES / f"{task}.yaml").read_text()
    head = text.partition("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert f"dropquery init {task}" in head
    assert "# Next:" in head
    assert yaml.safe_load(text)["run_dir"] == f"runs/{task}"
    assert max(map(len, text.splitlines())) <= 125


def test_what_exists_is_left_alone_and_a_task_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    init()
    assert all(f"  {task} " in capsys.readouterr().out for task in TASKS[:1])
    init("study", out="mine.yaml")
    assert "--config mine.yaml" in Path("mine.yaml").read_text()
    before = Path("mine.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"mine\.yaml exists and is left as it is"):
        init("segmentation", out="mine.yaml")
    assert Path("mine.yaml").read_bytes() == before
    with pytest.raises(ValueError, match=r"got 'studdy'; did you mean study\?"):
        init("studdy")
