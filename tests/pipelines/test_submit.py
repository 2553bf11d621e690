"""What submit reads from a command line, what it refuses, what it would send, and a job in the background."""

import json
from pathlib import Path

import pytest
import yaml

import cli
from pipelines.command import distributed, run_dir_of, with_command_last
from pipelines.jobs import Job
from pipelines.processes import without_slurm
from pipelines.submit import submit


def test_what_follows_the_options_is_left_alone() -> None:
    rest = ["fit", "--time", "7", "--config", "a.yaml", "--data.names", '["x", null]', "--wait"]
    own = with_command_last(["--time", "60", "--wait", "--dry_run", "false", "--partition=gpu", *rest])
    assert own[:-1] == ["--time", "60", "--wait", "true", "--dry_run", "false", "--partition=gpu", "--command"]
    assert json.loads(own[-1]) == rest
    assert json.loads(with_command_last(["--wait"])[-1]) == []


def test_the_run_directory_is_the_last_one_named(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text(yaml.safe_dump({"run_dir": "from/config", "trainer": {"devices": 2}}))
    assert run_dir_of(["fit"]) == Path("runs/default")
    assert run_dir_of(["fit", "--config", str(config)]) == Path("from/config")
    assert run_dir_of(["fit", f"--config={config}", "--run_dir=x", "--run_dir", "y"]) == Path("y")


def test_one_trainer_for_all_tasks(tmp_path: Path) -> None:
    assert distributed(["fit"], 1, 1) == ["fit"]
    both = ["--trainer.devices", "4", "--trainer.num_nodes", "2"]
    assert distributed(["fit"], 2, 4) == ["fit", *both]
    assert distributed(["fit", *both], 2, 4) == ["fit", *both]
    with pytest.raises(ValueError, match=r"trainer.devices to be the job's 2, got 1.*--tasks_per_node 1"):
        distributed(["fit", "--trainer.devices=1"], 1, 2)
    config = tmp_path / "a.yaml"
    config.write_text(yaml.safe_dump({"trainer": {"num_nodes": 2, "devices": "auto"}}))
    with pytest.raises(ValueError, match=r"trainer.num_nodes to be the job's 1, got 2.*--nodes 2"):
        distributed(["fit", "--config", str(config)], 1, 1)
    with pytest.raises(ValueError, match="difficulty is one process"):
        distributed(["difficulty"], 1, 2)


def test_a_new_job_knows_nothing_of_the_one_around_it() -> None:
    inside = {"SLURM_JOB_ID": "1", "SUBMITIT_EXECUTOR": "slurm", "SLURM_CONF": "c", "PATH": "p"}
    assert without_slurm(inside) == {"SLURM_CONF": "c", "PATH": "p"}


def test_a_dry_run_prints_the_script_and_writes_nothing(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    cli.main(
        [
            "submit", "--cluster", "slurm", "--time", "90", "--partition", "gpu", "--nodes", "2",
            "--gpus_per_node", "4", "--memory_gb", "1.5", "--requeue", "false", "--dry_run", "true",
            "fit", "--config", str(tiny_config), "--run_dir", str(run_dir),
        ]
    )  # fmt: skip
    printed = capsys.readouterr().out
    for flag in (
        "time=90", "partition=gpu", "nodes=2", "gpus-per-node=4", "ntasks-per-node=4", "mem=1536MB", "signal=USR2@90",
        "no-requeue\n", f"output={run_dir}/slurm/%j_0_log.out",
    ):  # fmt: skip
        assert f"#SBATCH --{flag}" in printed
    assert "--array" not in printed
    command = f"dropquery fit --config {tiny_config} --run_dir {run_dir} --trainer.devices 4 --trainer.num_nodes 2"
    assert command in printed
    assert not run_dir.exists()


def test_a_verb_of_jobs_becomes_an_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def jobs(command: list[str], dry: bool) -> list[Job]:
        dirs = [tmp_path / n for n in "abc"]
        return [Job(d.name, ("fit", "--run_dir", str(d)), d, d / "done") for d in dirs]

    submit(["study"], cluster="slurm", at_once=2, dry_run=True, expand=jobs)
    printed = capsys.readouterr().out
    assert "#SBATCH --array=0-2%2" in printed
    assert printed.count("dropquery fit --run_dir") == 3
    submit(
        ["study", "-v"],
        cluster="slurm",
        dry_run=True,
        expand=lambda command, dry: jobs([], dry) * (command == ["study"]),
    )
    assert capsys.readouterr().out.count(" -v\n") == 3, "what is said of the study is said of its runs"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "done").touch()
    submit(["study"], cluster="slurm", at_once=2, dry_run=True, expand=jobs)
    printed = capsys.readouterr().out
    assert "#SBATCH --array=0-1%2" in printed
    assert str(tmp_path / "b") not in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"command": []}, "expected a verb"),
        ({"command": ["fit"], "time": 10}, "--time must be at least 11 minutes, got 10"),
        ({"command": ["fit"], "cluster": "local", "nodes": 2}, "--cluster local has one machine"),
        ({"command": ["fit", "--trainer.devices", "1"], "cluster": "slurm", "tasks_per_node": 2}, "separate trainings"),
    ],
)
def test_mistakes_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        submit(**options, dry_run=True)


def test_submit_is_listed_and_helps(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in ((["--help"], "submit"), (["submit", "--help"], "--tasks_per_node")):
        with pytest.raises(SystemExit, match="0"):
            cli.main(arguments)
        assert words in capsys.readouterr().out


def test_a_job_in_the_background_of_this_machine(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run_dir = tmp_path / "run"
    command = ["fit", "--config", str(tiny_config), "--run_dir", str(run_dir), "--cycles", "1"]
    submit(command, cluster="local", wait=True)
    assert (run_dir / "learning_curve.csv").is_file()
    assert "FINISHED" in capsys.readouterr().out
    (log,) = (run_dir / "slurm").glob("*_0_log.out")
    assert "Cycle 0 fit: 5 labelled units" in log.read_text()
