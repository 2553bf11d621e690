"""Encoder weights from a file, and what is said of a file that does not do."""

import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34

from lightning_modules.networks import DeepLabV3Plus

SHARED = Path(__file__).resolve().parents[3] / "shared"
LITE0 = SHARED / "data" / "weights" / "tf_efficientnet_lite0.safetensors"
ENCODER = "tu-tf_efficientnet_lite0"


def make(weights: Path | str | None, encoder: str = ENCODER, in_channels: int = 3) -> DeepLabV3Plus:
    return DeepLabV3Plus(
        2, encoder, None if weights is None else str(weights), decoder_channels=8, in_channels=in_channels
    )


def saved(network: nn.Module, path: Path) -> dict[str, Tensor]:
    state = network.state_dict()
    save_file(state, path)
    return state


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    saved(timm.create_model("tf_efficientnet_lite0"), path)
    return path


def test_the_encoder_has_the_file_s_weights(lite0: Path) -> None:
    network = make(lite0)
    state, own = load_file(lite0), network.model.encoder.model.state_dict()
    assert len(own) > 250
    assert all(torch.equal(own[k], state[k]) for k in own)
    assert not torch.equal(own["conv_stem.weight"], make(None).model.encoder.model.state_dict()["conv_stem.weight"])


@pytest.mark.parametrize(
    ("encoder", "network"),
    [
        ("resnet18", resnet18),
        ("tu-resnet18", lambda: timm.create_model("resnet18")),
        ("tu-resnetv2_50", lambda: timm.create_model("resnetv2_50")),
    ],
)
def test_other_encoders(encoder: str, network: type[nn.Module], tmp_path: Path) -> None:
    """Torchvision's names, timm's, and those of stages that timm renames."""
    torch.manual_seed(0)
    state = saved(network(), tmp_path / "weights.safetensors")
    inner = make(tmp_path / "weights.safetensors", encoder).model.encoder
    own = getattr(inner, "model", inner).state_dict()
    theirs = {re.sub(r"^(stem|stages)\.", r"\1_", k): v for k, v in state.items()}
    assert all(torch.equal(own[k], theirs[k]) for k in own)


def test_a_file_without_counted_batches(lite0: Path, tmp_path: Path) -> None:
    state = {k: v for k, v in load_file(lite0).items() if not k.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "older.safetensors")
    own = make(tmp_path / "older.safetensors").model.encoder.model.state_dict()
    assert torch.equal(own["conv_stem.weight"], state["conv_stem.weight"])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"expected weights at .*none\.safetensors, got no such file; set network\.weig"
    ):
        make(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 1000])
def test_a_broken_file(keep: int, lite0: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(lite0.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"broken\.safetensors is not a readable \.safetensors file \(.+\); fetch it"):
        make(broken)


def test_a_file_of_another_format() -> None:
    with pytest.raises(ValueError, match=r"expected the name of weights or a \.safetensors file, got 'resnet18\.pth'"):
        make("resnet18.pth")


def test_files_of_other_networks(lite0: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"belongs to another network than encoder 'tu-resnet18' \(\d+ tensors differ"):
        make(lite0, "tu-resnet18")
    with pytest.raises(ValueError, match=r"conv_stem\.weight: it is 32 x 3 x 3 x 3 there and 32 x 4 x 3 x 3 here"):
        make(lite0, in_channels=4)
    # all that ResNet-18 has, with the same shapes, and more
    saved(resnet34(), tmp_path / "deeper.safetensors")
    with pytest.raises(ValueError, match=r"another network than encoder 'resnet18' .*layer1\.2\.\S+: it is not here"):
        make(tmp_path / "deeper.safetensors", "resnet18")


@pytest.mark.real
@pytest.mark.skipif(not LITE0.is_file(), reason="needs ../shared/data/weights")
def test_weights_of_imagenet_know_a_cat() -> None:
    """The file is whole: class 285 (Egyptian cat) for scikit-image's cat, and the encoder gives its features."""
    from skimage import data

    state = load_file(LITE0)
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(state)
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None] / 255
    image = nn.functional.interpolate(image[..., :300, 75:375], size=224, mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image = (image - mean) / deviation
    network = make(LITE0).eval()
    with torch.no_grad():
        assert whole(image).argmax().item() == 285
        own = network.model.encoder.model.blocks[0](
            network.model.encoder.model.bn1(network.model.encoder.model.conv_stem(image))
        )
        torch.testing.assert_close(own, whole.blocks[0](whole.bn1(whole.conv_stem(image))))
        assert network(image).shape == (1, 2, 224, 224)
