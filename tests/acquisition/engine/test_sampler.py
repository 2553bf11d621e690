"""The engine against T full passes with the same masks, and the masks against what they promise."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition import functions
from acquisition.engine import Sampler, active_dropouts
from acquisition.functional import class_probabilities
from acquisition.statistics import Statistic, StreamingStatistics

ACQUISITIONS = [
    functions.BALD(),
    functions.VoteEntropy(),
    functions.VariationRatio(),
    functions.MeanEntropy(),
    functions.MeanVariance(),
]
KEY = (3, 1)


class Block(nn.Module):
    """Eight channels to eight, with one of the things that networks do to a tensor that dropout may have touched."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=kind != "norm")
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        nn.init.uniform_(self.norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(self.norm.running_var, 0.5, 1.5)
        self.linear = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.4)
        self.drop_inplace = nn.Dropout(0.3, inplace=True)
        self.drop2d = nn.Dropout2d(0.3)
        self.alpha = nn.AlphaDropout(0.2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, early: Tensor) -> Tensor:
        return getattr(self, "_" + self.kind)(x, early)

    def _conv(self, x: Tensor, early: Tensor) -> Tensor:
        return self.relu(self.conv(x))

    def _norm(self, x: Tensor, early: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(x)))

    def _residual(self, x: Tensor, early: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        y += x
        return self.relu(y)

    def _into_early(self, x: Tensor, early: Tensor) -> Tensor:
        copy = early * 1
        copy += self.conv(x)
        return copy

    def _concat(self, x: Tensor, early: Tensor) -> Tensor:
        return F.relu(self.point(torch.cat([x, early], dim=1)))

    def _separable(self, x: Tensor, early: Tensor) -> Tensor:
        return self.relu(self.norm(self.point(self.deep(torch.cat([early, x], dim=1)))))

    def _linear(self, x: Tensor, early: Tensor) -> Tensor:
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _gate(self, x: Tensor, early: Tensor) -> Tensor:
        return x * torch.sigmoid(F.adaptive_avg_pool2d(early, 1))

    def _scale(self, x: Tensor, early: Tensor) -> Tensor:
        small = F.avg_pool2d(x, 2)
        return F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False) + early

    def _dropout(self, x: Tensor, early: Tensor) -> Tensor:
        return self.drop(x)

    def _reused(self, x: Tensor, early: Tensor) -> Tensor:
        return self.drop(F.relu(self.conv(self.drop(x))))

    def _inplace(self, x: Tensor, early: Tensor) -> Tensor:
        return self.drop_inplace(self.conv(x))

    def _functional(self, x: Tensor, early: Tensor) -> Tensor:
        return F.dropout(x, 0.3, training=self.training) + F.dropout2d(early, 0.2, training=self.training)

    def _features(self, x: Tensor, early: Tensor) -> Tensor:
        return self.drop2d(x)

    def _selu(self, x: Tensor, early: Tensor) -> Tensor:
        return self.alpha(F.selu(x))

    def _setitem(self, x: Tensor, early: Tensor) -> Tensor:
        y = torch.zeros_like(early)
        y[:, :4] = x[:, 4:]
        y[:, 4:] = early[:, :4]
        return y


KINDS = [n[1:] for n in vars(Block) if n.startswith("_") and not n.startswith("__")]
DROPS = ["dropout", "reused", "inplace", "functional", "features", "selu"]


class Net(nn.Module):
    def __init__(self, kinds: list[str], classes: int, up: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(k) for k in kinds)
        self.head = nn.Conv2d(8, classes, 1)
        self.up = nn.UpsamplingBilinear2d(scale_factor=2) if up else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        early = x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x, early)
        return self.up(4 * self.head(x))


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make()


def float64_statistics(
    network: nn.Module, images: Tensor, samples: int, rate: float | None = None
) -> StreamingStatistics:
    """Plain loop: sums of the softmax in float64 over full passes."""
    outputs = list(Sampler(network, KEY, rate).full_passes(images, samples))
    probs_TNC = torch.stack([class_probabilities(o.double()) for o in outputs])
    result = StreamingStatistics(set(Statistic))
    votes = F.one_hot(probs_TNC.argmax(dim=2), probs_TNC.shape[2]).movedim(-1, 2).double()
    result.num_samples = 1
    result._sums = {
        Statistic.MEAN: probs_TNC.mean(dim=0),
        Statistic.MEAN_SQUARES: probs_TNC.square().mean(dim=0),
        Statistic.EXPECTED_ENTROPY: -torch.xlogy(probs_TNC, probs_TNC).sum(dim=2).mean(dim=0),
        Statistic.VOTE_FRACTIONS: votes.mean(dim=0),
    }
    return result


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6).filter(lambda ks: any(k in DROPS for k in ks)),
    classes=st.integers(1, 5),
    up=st.booleans(),
    units=st.integers(1, 3),
    samples=st.integers(2, 6),
    rate=st.sampled_from([None, 0.1, 0.7]),
    seed=st.integers(0, 1000),
    channels_last=st.booleans(),
)
def test_every_acquisition_function_equals_a_float64_loop_over_full_passes(
    kinds: list[str], classes: int, up: bool, units: int, samples: int, rate: float | None, seed: int,
    channels_last: bool,
) -> None:  # fmt: skip
    network = seeded(lambda: Net(kinds, classes, up), seed)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    images = torch.randn(units, 3, 14, 10)
    engine = Sampler(network, KEY, rate)
    got = engine.statistics(images, samples, set(Statistic))
    expected = float64_statistics(network, images, samples, rate)
    assert engine.report.fallback == "", kinds
    ties = (expected[Statistic.VOTE_FRACTIONS] - got[Statistic.VOTE_FRACTIONS]).abs().amax(dim=1) > 1e-6
    for acquisition in ACQUISITIONS:
        difference = (acquisition.values(got) - acquisition.values(expected)).abs()
        if isinstance(acquisition, functions.VoteEntropy):
            # Two logits may be equal up to rounding; a vote can then fall either way.
            assert ties.float().mean() < 0.02
            difference = difference[~ties]
        assert difference.max() < 1e-5, acquisition.name
    for a, b in zip(engine.samples(images, samples), engine.full_passes(images, samples), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("low_resolution", [False, True])
def test_the_approximate_mode_has_the_output_stride(low_resolution: bool) -> None:
    network = seeded(lambda: Net(["dropout", "conv"], 3, True))
    engine = Sampler(network, KEY, low_resolution=low_resolution)
    values = engine.statistics(torch.randn(2, 3, 16, 16), 4, {Statistic.MEAN})[Statistic.MEAN]
    assert values.shape == ((2, 3, 8, 8) if low_resolution else (2, 3, 16, 16))


def test_a_score_does_not_depend_on_batch_size_or_order() -> None:
    network = seeded(lambda: Net(["reused", "concat", "features", "separable", "selu"], 4, True))
    images = torch.randn(6, 3, 16, 12)
    bald = functions.BALD()
    whole = bald.values(Sampler(network, KEY).statistics(images, 5, bald.needs))
    for size in (1, 2, 4):
        parts = [bald.values(Sampler(network, KEY).statistics(b, 5, bald.needs)) for b in images.split(size)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = bald.values(Sampler(network, KEY).statistics(images[order], 5, bald.needs))
    torch.testing.assert_close(shuffled, whole[order], rtol=0, atol=1e-6)


def test_masks_are_bit_identical_for_any_batch_size() -> None:
    class Identity(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5)

    one = torch.stack(list(Sampler(Identity(), KEY).samples(torch.ones(1, 5, 7, 3), 4)))
    many = torch.stack(list(Sampler(Identity(), KEY).samples(torch.ones(4, 5, 7, 3), 4)))
    assert torch.equal(one.expand_as(many), many)
    assert not torch.equal(many[0], many[1])
    other = torch.stack(list(Sampler(Identity(), (3, 2)).samples(torch.ones(1, 5, 7, 3), 4)))
    assert not torch.equal(one, other)


def test_masks_drop_the_share_they_should_and_keep_the_mean() -> None:
    for rate in (0.1, 0.5, 0.9):
        network = nn.Sequential(nn.Dropout(rate))
        sample = next(Sampler(network, KEY).samples(torch.ones(1, 200_000), 1))
        assert abs((sample == 0).float().mean().item() - rate) < 5e-3
        assert abs(sample.mean().item() - 1) < 2e-2
        assert torch.allclose(sample[sample > 0], torch.tensor(1 / (1 - rate)))


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = torch.randn(1, 200_000)
    sample = next(Sampler(nn.Sequential(nn.AlphaDropout(0.3)), KEY).samples(x, 1))
    assert abs(sample.mean().item()) < 2e-2
    assert abs(sample.std().item() - 1) < 2e-2


def test_independent_masks_belong_to_the_unit() -> None:
    network = seeded(lambda: Net(["dropout", "conv", "features"], 3, False))
    images = torch.randn(3, 3, 12, 12)
    engine = Sampler(network, KEY, per_image=True)
    whole = engine.statistics(images, 4, {Statistic.MEAN}, ["a", "b", "c"])[Statistic.MEAN]
    last = engine.statistics(images[2:], 4, {Statistic.MEAN}, ["c"])[Statistic.MEAN]
    torch.testing.assert_close(last, whole[2:], rtol=0, atol=1e-6)
    same = engine.statistics(images[:1].repeat(2, 1, 1, 1), 4, {Statistic.MEAN}, ["a", "b"])[Statistic.MEAN]
    assert not torch.allclose(same[0], same[1])
    with pytest.raises(ValueError, match="expected 3 image_ids, got 0"):
        engine.statistics(images, 4, {Statistic.MEAN})


def test_windows_of_a_unit_share_masks_between_units() -> None:
    class Windows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            n = x.shape[0]
            return F.dropout(x.reshape(n * 4, -1), 0.5).reshape(n, -1)

    x = torch.ones(3, 40)
    out = next(Sampler(Windows(), KEY).samples(x, 1))
    assert torch.equal(out[0], out[1])
    assert torch.equal(next(Sampler(Windows(), KEY).samples(x[:1], 1)), out[:1])
    assert not torch.equal(out[0, :10], out[0, 10:20])


class DropPath(nn.Module):
    """As timm's: the input itself in evaluation mode."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_drop_path_drops_whole_branches() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), DropPath(0.5))
    images = torch.randn(2, 3, 4, 4)
    plain = network(images)
    kept = [bool(out.any()) for out in Sampler(network, KEY).samples(images, 16)]
    assert 2 < sum(kept) < 14
    for out, keep in zip(Sampler(network, KEY).samples(images, 16), kept, strict=True):
        torch.testing.assert_close(out, 2 * plain * keep)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_timm_networks_with_dropout_and_drop_path(name: str) -> None:
    timm = pytest.importorskip("timm")
    size = {"img_size": 64} if name.startswith("vit") else {}
    network = seeded(lambda: timm.create_model(name, num_classes=5, drop_rate=0.3, drop_path_rate=0.2, **size)).eval()
    engine = Sampler(network, KEY)
    images = torch.randn(2, 3, 64, 64)
    samples = list(engine.samples(images, 3))
    assert engine.report.fallback == ""
    assert len(engine.report.dropouts) > 5
    assert not torch.equal(samples[0], samples[1])
    for got, expected in zip(samples, engine.full_passes(images, 3), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_torchvision_stochastic_depth() -> None:
    torchvision = pytest.importorskip("torchvision")
    network = seeded(lambda: torchvision.models.convnext_tiny(num_classes=4, stochastic_depth_prob=0.3))
    engine = Sampler(network, KEY)
    images = torch.randn(2, 3, 32, 32)
    got = engine.statistics(images, 3, set(Statistic))
    expected = float64_statistics(network, images, 3)
    assert engine.report.fallback == ""
    torch.testing.assert_close(got[Statistic.MEAN].double(), expected[Statistic.MEAN], rtol=0, atol=1e-5)


def test_everything_is_as_it_was_even_after_an_error() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[0] == 3:
                raise RuntimeError("three")
            return x

    network = seeded(lambda: nn.Sequential(Net(["norm", "dropout", "inplace"], 3, True), Fails()))
    network.train()
    network[0].blocks[0].norm.eval()
    modes = [m.training for m in network.modules()]
    state = {k: v.clone() for k, v in network.state_dict().items()}
    attributes = [dict(vars(m)) for m in network.modules()]
    generator = torch.get_rng_state()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    copy = images.clone()
    Sampler(network, KEY).statistics(images, 3, {Statistic.MEAN})
    with pytest.raises(RuntimeError, match="three"):
        Sampler(network, KEY).statistics(images[:1].repeat(3, 1, 1, 1), 3, {Statistic.MEAN})
    assert torch.equal(images, copy)
    assert torch.equal(torch.get_rng_state(), generator)
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    for module, before in zip(network.modules(), attributes, strict=True):
        assert vars(module).keys() == before.keys()
        assert all(vars(module)[k] is before[k] for k in before if k not in ("training",))
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks


class Custom(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.conv = nn.Conv2d(3, 3, 1)
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def _reads_value(self: Custom, x: Tensor) -> Tensor:
    y = self.drop(self.conv(x))
    return y * 2 if y.sum() > 0 else y


def _mutates_remembered(self: Custom, x: Tensor) -> Tensor:
    skip = self.conv(x)
    y = self.drop(skip) + skip
    skip.mul_(3)
    return y


def _reads_alias(self: Custom, x: Tensor) -> Tensor:
    skip = self.conv(x)
    view = skip[:, :]
    skip += self.drop(x)
    return view * 2


def _goes_through_numpy(self: Custom, x: Tensor) -> Tensor:
    return torch.from_numpy(self.drop(self.conv(x)).numpy() * 2)


def _counts_its_calls(self: Custom, x: Tensor) -> Tensor:
    self.calls = getattr(self, "calls", 0) + 1
    return self.drop(self.conv(x)) * self.calls


def _depends_on_shape(self: Custom, x: Tensor) -> Tensor:
    y = self.drop(self.conv(x))
    return y + y[y > 0].shape[0]


@torch.jit.script
def _scripted_double(x: Tensor) -> Tensor:
    return x * 2


def _calls_script(self: Custom, x: Tensor) -> Tensor:
    y = self.drop(self.conv(x))
    return y + _scripted_double(y)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (_reads_value, "hands a value that dropout touched to Python"),
        (_goes_through_numpy, "numpy hands a value"),
        (_mutates_remembered, "changed in place"),
        (_reads_alias, "a view of a tensor that was overwritten"),
        (_depends_on_shape, "changed its shape"),
        (_calls_script, "does not reproduce a full pass"),
        (_counts_its_calls, "does not reproduce a full pass"),
    ],
)
def test_what_a_recording_cannot_repeat_is_run_in_full(forward: Callable[..., Tensor], reason: str) -> None:
    network = seeded(lambda: Custom(forward))
    engine = Sampler(network, KEY)
    images = torch.randn(2, 3, 6, 6)
    got = engine.statistics(images, 4, set(Statistic))
    assert reason in engine.report.fallback
    if forward is not _counts_its_calls:
        expected = float64_statistics(network, images, 4)
        for statistic in (Statistic.MEAN, Statistic.EXPECTED_ENTROPY):
            torch.testing.assert_close(got[statistic].double(), expected[statistic], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "match"),
    [
        (nn.Conv2d(3, 2, 1), "at least one active dropout layer, got none that ran"),
        (nn.Sequential(nn.Dropout(0.0)), "at least one active dropout layer"),
        (nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True), "got MultiheadAttention '' with dropout 0.1"),
        (nn.Sequential(nn.LSTM(8, 8, 2, dropout=0.2)), "got LSTM '0' with dropout 0.2 inside; set its dropout to 0"),
        (nn.Sequential(torch.jit.script(nn.Linear(8, 8)), nn.Dropout()), "give it the module before torch.jit.script"),
        (nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), "got MultiheadAttention 'self_attn'"),
    ],
)
def test_what_cannot_be_sampled_is_refused_by_name(network: nn.Module, match: str) -> None:
    images = torch.randn(2, 3, 4, 4) if isinstance(network, nn.Conv2d) else torch.randn(2, 3, 8)
    if isinstance(network, nn.MultiheadAttention):
        attention, network = network, nn.Module()
        network.__class__ = type("Self", (nn.Module,), {"forward": lambda self, x: attention(x, x, x)[0]})
    with pytest.raises(ValueError, match=match):
        Sampler(network, KEY).statistics(images, 2, {Statistic.MEAN})


def test_dropouts_that_run_are_known_without_sampling() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.2), nn.Dropout(0.0), nn.Dropout2d(0.3)).train()
    assert [(d.layer, d.rate) for d in active_dropouts(network, torch.randn(1, 3, 4, 4))] == [
        ("1#0", 0.2),
        ("3#0", 0.3),
    ]
    assert network.training
    assert active_dropouts(nn.Conv2d(3, 4, 1), torch.randn(1, 3, 4, 4)) == ()


def test_hidden_attention_dropout_and_other_randomness_are_refused() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn_drop = nn.Dropout(0.1)

        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, dropout_p=self.attn_drop.p if self.training else 0.0)

    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x) + torch.randn_like(x)

    network = nn.Sequential()
    network.add_module("a", Attends())
    with pytest.raises(ValueError, match=r"scaled_dot_product_attention in 'a' with dropout 0\.1"):
        Sampler(network, KEY).statistics(torch.randn(2, 4, 8), 2, {Statistic.MEAN})
    with pytest.raises(ValueError, match="whose only randomness is dropout, got randn_like"):
        Sampler(Noisy(), KEY).statistics(torch.randn(2, 4, 8), 2, {Statistic.MEAN})


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_query_rate_lies_between_0_and_1(rate: float) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        Sampler(nn.Dropout(), KEY, rate=rate)


def test_only_the_part_behind_the_dropout_runs_again() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x

    prefix = Counting()
    network = nn.Sequential(nn.Conv2d(3, 8, 1), prefix, nn.Dropout(), nn.Conv2d(8, 3, 1))
    engine = Sampler(network, KEY)
    images = torch.randn(2, 3, 8, 8)
    engine.statistics(images, 10, {Statistic.MEAN})
    assert prefix.calls == 2  # the recording, and the first batch's check
    engine.statistics(images, 10, {Statistic.MEAN})
    assert prefix.calls == 3


def test_dict_outputs_and_classifiers() -> None:
    class AsDict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.aux = Net(["dropout", "conv"], 3, True), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"out": self.net(x), "aux": F.dropout(self.aux(x), 0.1)}

    images = torch.randn(2, 3, 8, 8)
    got = Sampler(seeded(AsDict), KEY).statistics(images, 3, {Statistic.MEAN})[Statistic.MEAN]
    assert got.shape == (2, 3, 8, 8)
    classifier = seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 4))
    )
    values = Sampler(classifier, KEY).statistics(images, 7, set(Statistic))
    expected = float64_statistics(classifier, images, 7)
    torch.testing.assert_close(values[Statistic.MEAN].double(), expected[Statistic.MEAN], rtol=0, atol=1e-6)
    pair = nn.Module()
    pair.__class__ = type("Pair", (nn.Module,), {"forward": lambda self, x: (F.dropout(x), x)})
    with pytest.raises(ValueError, match="expected a tensor, or a dict with a tensor 'out', got tuple"):
        Sampler(pair, KEY).statistics(images, 3, {Statistic.MEAN})


def test_weights_that_change_between_batches_are_packed_again() -> None:
    network = seeded(lambda: Net(["dropout", "norm", "separable"], 3, True).to(memory_format=torch.channels_last))
    engine = Sampler(network, KEY)
    images = torch.randn(2, 3, 8, 8)
    engine.statistics(images, 3, {Statistic.MEAN})
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(1.5)
    got = engine.statistics(images, 3, {Statistic.MEAN})[Statistic.MEAN]
    expected = float64_statistics(network, images, 3)[Statistic.MEAN]
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)


def test_inference_mode_and_compiled_modules() -> None:
    network = seeded(lambda: Net(["dropout", "conv"], 3, True))
    images = torch.randn(2, 3, 8, 8)
    expected = Sampler(network, KEY).statistics(images, 3, {Statistic.MEAN})[Statistic.MEAN]
    with torch.inference_mode():
        got = Sampler(network, KEY).statistics(images * 1, 3, {Statistic.MEAN})[Statistic.MEAN]
    assert torch.equal(got, expected)
    compiled = Sampler(torch.compile(network), KEY).statistics(images, 3, {Statistic.MEAN})[Statistic.MEAN]
    assert torch.equal(compiled, expected)
