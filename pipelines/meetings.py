"""Where the processes of one job wait for each other before something that one of them decides."""

from pytorch_lightning.plugins.environments import LightningEnvironment

from pipelines.trainer import QueryTrainer

__all__ = ["meet"]


def meet(trainer: QueryTrainer | None, value: bool = True) -> bool:
    """Wait for the other processes of the job, where they all start together.

    Lightning's own launcher starts the others later, from the first one's fit.

    Args:
        trainer: Whose processes they are; None for a job of one process.
        value: Said by the first process; those of the others do not count.

    Returns:
        The first process's value.

    """
    if trainer is None or trainer.world_size == 1:
        return value
    if isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment):
        return value
    trainer.strategy.setup_environment()
    trainer.strategy.barrier("all have come")
    return trainer.strategy.broadcast(value)
