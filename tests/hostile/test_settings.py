"""Settings that nobody means, on the command line and in YAML."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.hostile.table import FIT, Row, run_in_process, table

PEOPLE = (
    "--model.network.num_classes 2 --data.source datamodules.sources.synthetic_annotators.SyntheticAnnotators "
    "--data.source.num_images 8 --data.source.size [32,32] --data.source.folds 2 "
    "--data.initial datamodules.initial.AllAnswered"
)
CROWD = "lightning_modules.crowd.CrowdLayer --model.loss.num_annotators 1 --model.loss.num_classes 2"


def bomb(link: str) -> str:
    """Nine anchors, each of which stands for nine of the one before."""
    lines = [f"{now}: &{now} {link.format(','.join([f'*{before}'] * 9))}" for before, now in pairwise("abcdefghi")]
    return "\n".join(["a: &a {x: [1]}", *lines])


def yaml_row(name: str, content: str | bytes, says: str) -> Row:
    return Row(f"{FIT} --config {name}", says, {name: content})


VALUES = [
    Row(f"{FIT} --strategy.budget 0", "at least 1 unit per cycle, got strategy.budget 0"),
    Row(f"{FIT} --strategy.budget_pixels -5", "strategy.budget_pixels must be at least 1"),
    Row(f"{FIT} --strategy.pictures -1", "strategy.pictures must be 0 or more, got -1"),
    Row(f"{FIT} --strategy.predictor.num_samples 0", "num_samples must be at least 2 for BALD, got 0"),
    Row(f"{FIT} --strategy.predictor.rate 1.5", "must lie between 0 and 1, got 1.5"),
    Row(f"{FIT} --strategy.race.first 0", "at least 8 first MC samples"),
    Row(f"{FIT} --strategy.routing.budget 0.5", "must pay for the cheapest action, a label at 1, got 0.5"),
    Row(f"{FIT} --strategy.routing.prices '{{export: 3}}'", "label, second, expert, guidelines, got one of 'export'"),
    Row(f"{FIT} --strategy.routing.prices '{{expert: -3}}'", "price of expert must be a number of labels"),
    Row(f"{FIT} --strategy.routing.budget 2 --strategy.acquisition Entropy", "routing needs an acquisition that draws"),
    Row(
        f"{FIT} --strategy.predictor Ensemble --strategy.predictor.checkpoints [nothing.ckpt]",
        "expected checkpoints at nothing.ckpt",
    ),
    Row(f"{FIT} --data.initial.size 0", "got data.initial.size 0"),
    Row(f"{FIT} --data.initial.size 99", "lower data.initial.size"),
    Row(f"{FIT} --data.crop_size [0,0]", "data.crop_size must be (height, width)"),
    Row(f"{FIT} --data.crop_size [32]", "data.crop_size must be (height, width)"),
    Row(f"{FIT} --data.image_size [0,32]", "data.image_size must be (height, width)"),
    Row(f"{FIT} --data.image_size [-1,32]", "data.image_size must be (height, width)"),
    Row(f"{FIT} --data.source.size [0,0]", "data.source.size must be (height, width)"),
    Row(f"{FIT} --data.scale [2,0.5]", "data.scale must be (smallest, largest)"),
    Row(f"{FIT} --data.flip 2.0", "data.flip is a probability"),
    Row(f"{FIT} --data.num_workers -1", "data.num_workers must be 0 or more"),
    Row(f"{FIT} --data.batch_size 0", "data.batch_size must be at least 1, got 0"),
    Row(f"{FIT} --data.eval_batch_size -2", "data.eval_batch_size must be at least 1"),
    Row(f"{FIT} --data.source.num_train -4", "at least one image in the train split"),
    Row(f"{FIT} --data.source.num_val 0", "at least one image in the val split"),
    Row(f"{FIT} --data.source.repeated 2", "data.source.repeated is a share"),
    Row(f"{FIT} --trainer.max_epochs 0", "trainer.max_epochs of at least 1"),
    Row(f"{FIT} --trainer.max_epochs -5", "`max_epochs` must be a non-negative integer or -1"),
    Row(f"{FIT} --trainer.check_val_every_n_epoch 0", "trainer.check_val_every_n_epoch must be at least 1"),
    Row(
        f"{FIT} --trainer.max_epochs 3 --trainer.check_val_every_n_epoch 5",
        "the fit would end without a validation: trainer.check_val_every_n_epoch is 5 and trainer.max_epochs 3",
    ),
    Row(f"{FIT} --trainer.limit_train_batches 0", "the fit ended without a validation"),
    Row(f"{FIT} --trainer.fast_dev_run true", "trainer.fast_dev_run"),
    Row(f"{FIT} --trainer.devices 0", "Trainer(devices='0')"),
    Row(f"{FIT} --cycles 0", "--cycles must be at least 1, got 0"),
    Row(f"{FIT} --cycles x", "--cycles must be a whole number, got x", code=2),
    Row(f"{FIT} --seed_everything -1", "--seed_everything must be from 0"),
    Row(f"{FIT} --seed_everything 4294967296", "--seed_everything must be from 0"),
    Row(f"{FIT} --model.optimizer.lr 1e30", "lower the learning rate"),
    Row(f"{FIT} --model.optimizer.lr -1", "Invalid learning rate: -1.0"),
    Row(f"{FIT} --model.network.dropout 2", "dropout probability has to be between 0 and 1"),
    Row(f"{FIT} --model.network.num_classes 4", "set model.network.num_classes to 5"),
    Row(
        f"{FIT} --model.pretrained nothing.ckpt",
        "model.pretrained: expected a checkpoint at nothing.ckpt, got no such file",
    ),
    Row(f"{FIT} --members.retries -1", "members.retries must be at least 0"),
    Row(f"{FIT} --members.predictor.num_samples 1", "num_samples must be at least 2 for a variance"),
    Row(f"{FIT} --members.predictor.at_output_stride true", "set at_output_stride to false"),
    Row(
        f"{FIT} --wandb.mode sometimes", "--wandb.mode must be one of online, offline, disabled, got sometimes", code=2
    ),
    Row(f"{FIT} --nonsense 3", "--nonsense", code=2),
    Row(f"{FIT} --ckpt_path x", "fit takes no --ckpt_path"),
    Row("frobnicate", "frobnicate", code=2),
    Row("study --config tiny.yaml --run_dir run", "set grid.strategies"),
    Row("study --config tiny.yaml --run_dir run --grid.retries -1 --grid.strategies {}", "grid.retries must be 0"),
    Row("study --config tiny.yaml --run_dir run --grid.strategies '{a: {}}' --grid.baseline b", "grid.baseline is one"),
    Row("ensemble --config tiny.yaml --run_dir run", "expected --cycles 1, got 2"),
    Row("difficulty --config tiny.yaml --run_dir run", "data.source with several annotators"),
    Row(
        f"ensemble --config tiny.yaml --run_dir run --cycles 1 {PEOPLE} --data.source.people [careful,erodes]",
        "leave it",
    ),
    Row(f"{FIT} --model.loss {CROWD}", 'needs training batches with "annotator"'),
    Row(f"{FIT} {PEOPLE} --model.loss {CROWD} --data.source.annotator staple", "set data.source.annotator to random"),
    Row(f"{FIT} {PEOPLE} --model.loss {CROWD} --data.source.annotator random", "set model.loss.num_annotators to"),
    Row(f"{FIT} {PEOPLE} --data.source.people [careful,nobody]", "data.source.people to be among careful"),
    Row(f"{FIT} {PEOPLE} --data.source.people [careful]", "about at least two people"),
]

CLASSES = [
    Row(f"{FIT} --strategy.acquisition os.system", "os.system", code=2),
    Row(f"{FIT} --model os.system", "os.system", code=2),
    Row(f"{FIT} --data no.such.Data", "no.such.Data", code=2),
    # a module is looked for, but a class of another kind is never made
    Row(f"{FIT} --strategy.selection subprocess.Popen --strategy.selection.args 'touch executed'", "Popen", code=2),
    Row(f"{FIT} --trainer.callbacks '[{{class_path: os.system}}]'", "os.system", code=2),
]

YAMLS = [
    yaml_row("bomb.yaml", bomb("[{}]"), "bomb.yaml is not readable YAML (its aliases stand for"),
    yaml_row("merge.yaml", bomb("{{<<: [{}]}}"), "merge.yaml is not readable YAML (its aliases stand for"),
    yaml_row("itself.yaml", "a: &a [*a]", "itself.yaml is not readable YAML (its aliases stand for"),
    yaml_row("deep.yaml", "a: " + "[" * 3000 + "]" * 3000, "deep.yaml is not readable YAML (it is nested"),
    yaml_row("tag.yaml", "run_dir: !!python/object/apply:os.system ['touch executed']", "tag.yaml is not readable"),
    yaml_row("two.yaml", "cycles: 1\n---\ncycles: 2", "two.yaml is not readable YAML"),
    yaml_row("tab.yaml", "trainer:\n\tdevices: 1", "tab.yaml is not readable YAML"),
    yaml_row("list.yaml", "- 1", "list.yaml is not readable YAML (expected names with values"),
    yaml_row("empty.yaml", "", "empty.yaml is not readable YAML"),
    yaml_row("nul.yaml", b"cycles: \0", "nul.yaml is not readable YAML"),
    yaml_row("latin.yaml", "run_dir: r\xe9".encode("latin1"), "latin.yaml is not readable YAML"),
    yaml_row("utf16.yaml", "cycles: 1".encode("utf16"), "utf16.yaml is not readable YAML"),
    yaml_row("noise.yaml", bytes(range(255, 0, -1)), "noise.yaml is not readable YAML"),
    Row(f"{FIT} --config key.yaml", "trainer.max_epoch", {"key.yaml": "trainer: {max_epoch: 3}"}, code=2),
    Row("fit --config missing.yaml", "missing.yaml", code=2),
    Row("fit --config .", "not a file", code=2),
    Row(f"{FIT} --data.oracle bomb.yaml", "oracle", {"bomb.yaml": bomb("[{}]")}, code=2),
    Row("submit --cluster slurm --dry_run fit --config bomb.yaml", "bomb.yaml is not", {"bomb.yaml": bomb("[{}]")}),
    Row("submit --cluster slurm --dry_run fit --config a.yaml", "a.yaml is not readable", {"a.yaml": "a:\n\tb: 1"}),
]

NAMES = [
    Row("fit --config tiny.yaml --run_dir ''", "--run_dir must be a name"),
    Row("fit --config tiny.yaml --run_dir ' '", "--run_dir must be a name"),
    Row("fit --config tiny.yaml --run_dir 'a\nb'", "--run_dir must be a name"),
    Row("query --config tiny.yaml --run_dir 'a\x1b[2Jb'", "--run_dir must be a name"),
    Row("validate --config tiny.yaml --run_dir 'a\udcff'", "--run_dir must be a name"),
    Row("study --config tiny.yaml --run_dir ''", "--run_dir must be a name"),
    Row("fit --config tiny.yaml --run_dir tiny.yaml", "tiny.yaml cannot be written to"),
    Row("fit --config tiny.yaml --run_dir tiny.yaml/run", "tiny.yaml/run cannot be written to"),
    Row(f"fit --config tiny.yaml --run_dir {'r' * 300}", "cannot be written to"),
    Row("submit --cluster slurm --dry_run fit --run_dir ''", "--run_dir must be a name"),
    Row("submit --cluster slurm --dry_run fit --run_dir 'a\n#SBATCH --wrap=touch'", "--run_dir must be a name"),
    Row("submit --cluster slurm --dry_run --partition 'a\n#SBATCH --wrap=touch' fit", "--partition must be a name"),
    Row("submit --cluster slurm --dry_run 'fit\n#SBATCH --wrap=touch'", "there is no verb 'fit", code=2),
    Row("submit --cluster slurm --dry_run --time 3 fit", "--time must be at least 11 minutes"),
    Row("submit --cluster slurm --dry_run", "expected a verb"),
]


@table([*VALUES, *CLASSES, *YAMLS, *NAMES])
def test_one_sentence_and_nothing_else(row: Row, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in_process(row, here, capsys)
