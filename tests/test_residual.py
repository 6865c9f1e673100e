"""resnet8: shapes, initial weights, and its part in trainings, diagnostics, similarity and ONNX."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from aepretrain.config import Settings, Shape, TrainingSpec
from aepretrain.data import Dataset, with_digest
from aepretrain.errors import UsageError
from aepretrain.networks import build
from aepretrain.networks.residual import Block, Residual
from aepretrain.serving import export_onnx
from aepretrain.training import Outcome, run, scoring_module
from aepretrain.training.similarity import PAIRS

CPU = torch.device("cpu")
COLOUR = Shape((3, 32, 32), 10)
NUM_RELUS = 8


def built(shape: Shape = COLOUR, seed: int = 0) -> Residual:
    network = build("resnet8", seed, shape)
    assert isinstance(network, Residual)
    return network


def num_parameters(part: nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())


def test_parameter_counts() -> None:
    # 3·16·9+16, 2(16·16·9+16), 16·32·9+32 + 32·32·9+32 + 16·32+32, 32·64·9+64 + 64·64·9+64 + 32·64+64, 64·8+8
    network = built()
    assert num_parameters(network.encoder) == 448 + 4_640 + 14_432 + 57_536 + 520
    assert num_parameters(network.classifier1) == num_parameters(network.classifier2) == 512 * 10 + 10


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "code"),
    [((32, 32), (8, 8)), ((28, 28), (7, 7)), ((48, 40), (12, 10)), ((13, 9), (4, 3)), ((8, 8), (2, 2))],
)
def test_images_of_any_size_come_back(channels: int, size: tuple[int, int], code: tuple[int, int]) -> None:
    network = built(Shape((channels, *size), 7))
    codes_ND = network.encode(torch.rand(3, channels, *size))
    assert codes_ND.shape == (3, 8 * code[0] * code[1])
    assert network.decode(codes_ND).shape == (3, channels, *size)
    assert network.classifier2(codes_ND).shape == (3, 7)


def test_smaller_images_are_refused() -> None:
    with pytest.raises(UsageError, match="it needs images of 8×8 pixels or more, not 32×7"):
        build("resnet8", 0, Shape((3, 32, 7), 10))


def test_initial_weights_belong_to_the_seed_and_blocks_begin_as_their_shortcuts() -> None:
    first, again, other = (built(seed=seed) for seed in (3, 3, 4))
    for (key, a), b, c in zip(
        first.state_dict().items(), again.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), key
        assert torch.equal(a, c) == (not a.any()), key
    blocks = [one for one in first.modules() if isinstance(one, Block)]
    assert len(blocks) == 6
    maps_NCHW = torch.rand(2, 32, 12, 12)
    assert torch.equal(blocks[2](maps_NCHW), blocks[2].shortcut(maps_NCHW).relu())
    weights = first.state_dict()["encoder.4.change.0.weight"]
    assert weights.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05), "He et al. 2015"
    assert torch.equal(first.classifier1.weight, first.classifier2.weight)


def test_the_layout_for_a_cpu_gives_what_the_layers_give() -> None:
    network = built().double()
    images_NCHW = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    codes_ND = network.encode(images_NCHW)
    torch.testing.assert_close(codes_ND, network.encode_by_layers(images_NCHW), rtol=1e-12, atol=1e-12)
    listed_NCHW = network.decoder(network.encoder(images_NCHW))
    torch.testing.assert_close(network.decode(codes_ND), listed_NCHW, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def colours() -> Dataset:
    """Three classes of 12×10 noise: each brighter in a channel of its own."""
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.arange(360) % 3
    images_NCHW = torch.randint(0, 160, (360, 3, 12, 10), generator=generator, dtype=torch.uint8)
    images_NCHW[torch.arange(360), labels_N] += 60
    return with_digest("colours", "made here", images_NCHW[:300], labels_N[:300], images_NCHW[300:], labels_N[300:])


def trained(dataset: Dataset, variant: str, *seeds: int, sources: Mapping[str, Mapping[str, Tensor]]) -> list[Outcome]:
    settings = Settings(ae_epochs=4, cls_epochs=4, batch_size=25)
    specs = [TrainingSpec(variant=variant, network="resnet8", seed=seed, settings=settings) for seed in seeds]
    found = run(specs, dataset, CPU, [sources] * len(specs), lambda *_: None)
    return [one for one in found if isinstance(one, Outcome)]


@pytest.fixture(scope="module")
def outcomes(colours: Dataset) -> dict[str, Outcome]:
    """Of the grid's variants, one seed."""
    (pretrained,) = trained(colours, "pretrain", 0, sources={})
    sources = {"frozen": {"pretrain": pretrained.weights}, "finetune": {"pretrain": pretrained.weights}, "scratch": {}}
    return {"pretrain": pretrained} | {
        variant: trained(colours, variant, 0, sources=given)[0] for variant, given in sources.items()
    }


def test_training_lowers_the_loss(outcomes: Mapping[str, Outcome]) -> None:
    for variant, one in outcomes.items():
        share = one.evidence.history[-1].val_loss / one.evidence.history[0].val_loss
        assert share < (1 if variant == "frozen" else 0.9), variant
    assert outcomes["finetune"].metrics["test_accuracy"] > 0.9


def test_a_stack_gives_what_single_trainings_do(colours: Dataset, outcomes: Mapping[str, Outcome]) -> None:
    first, _ = trained(colours, "scratch", 0, 1, sources={})
    single = outcomes["scratch"].evidence.history
    for ours, alone in zip(first.evidence.history[:2], single[:2], strict=True):
        assert ours.val_loss == pytest.approx(alone.val_loss, rel=1e-3)


def test_diagnostics_and_filters(outcomes: Mapping[str, Outcome]) -> None:
    for variant in ("pretrain", "finetune", "scratch"):
        figures = outcomes[variant].metrics
        assert 0 <= figures["dead_units"] < 0.5
        assert 1 <= figures["effective_rank"] <= 8 * 3 * 3
        assert figures["probe_accuracy"] > 0.6
        filters_CHW = outcomes[variant].evidence.filters_CHW
        assert filters_CHW is not None
        assert filters_CHW.shape == (16, 3, 3)


def test_similarity_looks_at_every_relu(colours: Dataset, outcomes: Mapping[str, Outcome]) -> None:
    weights = {name: one.weights for name, one in outcomes.items() if name != "frozen"}
    sources = weights | {"other": outcomes["scratch"].weights}
    spec = TrainingSpec(variant="similarity", network="resnet8")
    (found,) = run([spec], colours, CPU, [sources], lambda *_: None)
    assert isinstance(found, Outcome)
    names = {f"cka_{a}_{b}_{layer}" for a, b in PAIRS for layer in range(1, NUM_RELUS + 1)}
    assert set(found.metrics) == names | {"training_s"}
    assert found.metrics["cka_scratch_other_8"] == pytest.approx(1, abs=1e-5)


def test_onnx_gives_what_pytorch_gives(colours: Dataset, outcomes: Mapping[str, Outcome], tmp_path: Path) -> None:
    spec = TrainingSpec(variant="scratch", network="resnet8")
    module = scoring_module(spec, colours.shape, outcomes["scratch"].weights)
    assert export_onnx(module, colours.shape, colours.classes, tmp_path / "model.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images_NCHW = colours.test_images_NCHW.float() / 255
    (probs_NK,) = session.run(None, {"images": images_NCHW.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(probs_NK), module(images_NCHW), rtol=1e-4, atol=1e-5)
