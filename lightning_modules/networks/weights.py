"""Loading pretrained weights, with a clear error if they are not available."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

__all__ = ["WeightsUnavailableError", "downloading", "is_file", "load_encoder", "wanted_weights"]


class WeightsUnavailableError(OSError):
    """Pretrained weights are neither cached nor downloadable."""


def wanted_weights(name: str | None) -> str | None:
    """Undo jsonargparse's reading of a nested null as the string "None" in the name of some weights."""
    return None if name == "None" else name


@contextmanager
def downloading(what: str, option: str) -> Iterator[None]:
    """Turn the errors of a download into one sentence.

    Args:
        what: What is downloaded.
        option: The setting that avoids the download.

    Raises:
        ValueError: There are no such weights.
        WeightsUnavailableError: They could not be downloaded.
    """
    try:
        yield
    except KeyError as error:
        raise ValueError(f"there are no {what}: {error.args[0]}") from error
    # the hubs raise OSError, RuntimeError or HTTP errors of their own, whose only common base is Exception
    except Exception as error:
        raise WeightsUnavailableError(
            f"{what} could not be downloaded ({type(error).__name__}: {str(error).partition(chr(10))[0]}); set "
            f"{option} to train from scratch, or bring the file into torch's cache (TORCH_HOME)"
        ) from error


def is_file(weights: str | None) -> bool:
    """Whether weights are a file's, and not the name of some that are downloaded.

    Args:
        weights: The setting.

    Raises:
        ValueError: It is a file of another format.
    """
    if weights is None or not (Path(weights).suffix or "/" in weights):
        return False
    if Path(weights).suffix != ".safetensors":
        raise ValueError(
            f"expected the name of weights or a .safetensors file, got {weights!r}; "
            "convert the file with safetensors.torch.save_file"
        )
    return True


def load_encoder(encoder: nn.Module, path: Path, name: str) -> None:
    """Give an encoder the weights of a classifier of the same architecture.

    The file holds tensors under timm's or torchvision's names; the classifier's last layers may be there and are
    left out.

    Args:
        encoder: Takes them; a classifier without its last layers.
        path: The .safetensors file.
        name: The encoder's, for errors.

    Raises:
        ValueError: There is no such file, it cannot be read, or it belongs to another network.
    """
    if not path.is_file():
        raise ValueError(f"expected weights at {path}, got no such file; set network.weights to another, or to null")
    try:
        loaded = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a readable .safetensors file ({str(error).partition(chr(10))[0]}); fetch it anew, or set "
            "network.weights to null"
        ) from error
    own = encoder.state_dict()
    parts = {key.partition(".")[0] for key in own}
    # timm calls a part of some encoders stages_0 where the classifier has stages.0
    split = {k: re.sub(r"^(\w+)\.(\w+)\.", r"\1_\2.", k) for k in loaded}
    loaded = {new if new.partition(".")[0] in parts else k: loaded[k] for k, new in split.items()}
    # torch counts batches for a setting that these norms do not use, and older files lack the count
    wrong = {k: "there is none" for k in own if k not in loaded and not k.endswith("num_batches_tracked")}
    wrong |= {
        k: f"it is {_shape(loaded[k].shape)} there and {_shape(own[k].shape)} here"
        for k in own
        if k in loaded and own[k].shape != loaded[k].shape
    }
    # a deeper network has all that a shallower one has
    wrong |= {k: "it is not here" for k in loaded if k not in own and k.partition(".")[0] in parts}
    if wrong:
        first = min(wrong)
        raise ValueError(
            f"{path} belongs to another network than encoder {name!r} ({len(wrong)} tensors differ; {first}: "
            f"{wrong[first]}); give the file of this encoder, or set network.encoder to the file's"
        )
    encoder.load_state_dict({k: v for k, v in loaded.items() if k in own}, strict=False)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
