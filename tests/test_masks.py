"""What stays of images is what `torch.rand` would say, bit for bit."""

import pytest
import torch

from aepretrain import masks


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0])
@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (2, 28, 28), (624,), (625,), (0, 4)], ids=str)
@pytest.mark.parametrize("num_before", [0, 1, 16, 623, 624, 1000])
def test_the_bits_of_torch_and_the_generator_goes_on(share: float, shape: tuple[int, ...], num_before: int) -> None:
    ours, theirs = (torch.Generator().manual_seed(2**40 + 7) for _ in range(2))
    for generator in (ours, theirs):
        torch.randint(9, (num_before,), generator=generator)
    for _ in range(2):
        assert torch.equal(masks.kept(shape, share, ours), torch.rand(shape, generator=theirs) >= share)
    assert torch.equal(torch.rand(700, generator=ours), torch.rand(700, generator=theirs))
    assert torch.equal(torch.randn(700, generator=ours), torch.randn(700, generator=theirs))


def test_a_state_that_is_not_known_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "STATE_BYTES", 1)
    ours, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
    assert torch.equal(masks.kept((50,), 0.5, ours), torch.rand(50, generator=theirs) >= 0.5)
