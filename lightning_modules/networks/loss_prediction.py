"""A network that also predicts its own loss (Yoo and Kweon 2019, "Learning Loss for Active Learning")."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition.engine import frozen

__all__ = ["LossPrediction"]


class LossPrediction(nn.Module):
    """Another network, and a head that predicts the loss of each image from what some of its layers give.

    Each layer's output is averaged over the image, or over the cells of a coarse grid, and goes through a linear layer
    and a ReLU; a last linear layer sees them all. Called like any network it gives the logits alone, and the head does
    not run: MC samples, embeddings and pictures are those of the network inside.

    Args:
        network: From images, N x channels x H x W, to logits, N x C x H x W or N x C.
        layers: Names of modules inside it, as in `named_modules`; each gives N x D x h x w or N x D. Unless given, the
            network's attribute `loss_layers` names them, as that of `DRND22` does.
        width: Outputs of each layer's linear layer.
        pool: Cells of the grid in each direction; 1 averages over the whole image.
        image_shape: Channels, height and width of an image that the network takes, to find out once what the layers
            give; the network's attribute `image_shape` unless given, or else 3 x 64 x 64.

    Raises:
        ValueError: If no layers are named, or one of them is not there, does not run or gives something else; or if a
            size is below 1.

    Example:
        >>> from lightning_modules.networks import GalCNN
        >>> network = LossPrediction(GalCNN(), layers=["features", "hidden"]).eval()
        >>> logits, losses = network.with_predicted_loss(torch.zeros(4, 1, 28, 28))
        >>> logits.shape, losses.shape
        (torch.Size([4, 10]), torch.Size([4]))
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str] | None = None,
        width: int = 128,
        pool: int = 1,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if min(width, pool) < 1:
            raise ValueError(f"width and pool of LossPrediction must be at least 1, got {width} and {pool}")
        self.network = network
        self.num_classes = getattr(network, "num_classes", 0)
        feature_layer = getattr(network, "feature_layer", None)
        if feature_layer is not None:
            self.feature_layer = f"network.{feature_layer}"
        encoder_output = getattr(network, "encoder_output", None)
        if encoder_output is not None:
            self.encoder_output = f"network.{encoder_output}"
        score_layers: Sequence[str] | None = getattr(network, "score_layers", None)
        if score_layers is not None:
            # the head looks at what the layers give, which may be logits
            self.score_layers = (*(f"network.{name}" for name in score_layers), "squeeze", "predict")
        self.pool = pool
        named: Sequence[str] = getattr(network, "loss_layers", ()) if layers is None else layers
        self.layers = tuple(named)
        known = dict(network.named_modules())
        unknown = ", ".join(repr(name) for name in self.layers if name not in known)
        if unknown or not self.layers:
            children = ", ".join(name for name, _ in network.named_children())
            raise ValueError(
                f"LossPrediction needs names of layers of {type(network).__name__}, got {unknown or 'none'}; set "
                f"model.network.layers to some of {children}, or to names inside them"
            )
        shape: Sequence[int] = getattr(network, "image_shape", (3, 64, 64)) if image_shape is None else image_shape
        example = torch.zeros(1, *shape, device=next(network.parameters()).device)
        try:
            with frozen(network), torch.no_grad():
                sizes = [features.shape[1] for features in self._pass(example, detach=True)[1]]
        except RuntimeError as error:
            raise ValueError(
                f"LossPrediction tries {type(network).__name__} on an image of {' x '.join(map(str, shape))}, which it "
                f"does not take ({error}); set model.network.image_shape to (channels, height, width) of its images"
            ) from error
        self.squeeze = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.predict = nn.Linear(width * len(sizes), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C x H x W or N x C."""
        logits: Tensor = self.network(images)
        return logits

    def with_predicted_loss(self, images: Tensor, detach: bool = False) -> tuple[Tensor, Tensor]:
        """Predict classes and losses in one pass.

        Args:
            images: N x channels x H x W.
            detach: Whether the head's gradient ends at the features, so that it changes nothing in the network.

        Returns:
            Logits, N x C x H x W or N x C, and predicted losses, N, in float32. The order of these means something, not
            their size.
        """
        logits, features = self._pass(images, detach)
        hidden = [F.relu(squeeze(x)) for squeeze, x in zip(self.squeeze, features, strict=True)]
        predicted: Tensor = self.predict(torch.cat(hidden, dim=1))
        return logits, predicted.squeeze(1).float()

    def _pass(self, images: Tensor, detach: bool) -> tuple[Tensor, list[Tensor]]:
        """Logits, and what the layers give, pooled, N x D each."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> object:
            # pooled at once: the next layer may overwrite its input
            def see(layer: nn.Module, inputs: object, output: Tensor) -> None:
                found[name] = self._pooled(name, output.detach() if detach else output)

            return self.network.get_submodule(name).register_forward_hook(see)

        handles = [keep(name) for name in self.layers]
        try:
            logits = self.network(images)
        finally:
            for handle in handles:
                handle.remove()  # type: ignore[attr-defined]
        silent = [name for name in self.layers if name not in found]
        if silent:
            raise ValueError(f"layers of LossPrediction must run in every pass, got {', '.join(silent)}; name others")
        return logits, [found[name] for name in self.layers]

    def _pooled(self, name: str, output: Tensor) -> Tensor:
        if output.ndim not in (2, 4):
            raise ValueError(
                f"layers of LossPrediction must give N x D x h x w or N x D, got {tuple(output.shape)} from {name!r}; "
                "name another layer"
            )
        maps = output.float()
        return maps if maps.ndim == 2 else F.adaptive_avg_pool2d(maps, self.pool).flatten(start_dim=1)
