"""Principal components and likeness of codes, on values known beforehand."""

import numpy as np
import pytest

from aepretrain.analysis import linear_cka, map_of_codes, principal_components


def codes(num_features: int, seed: int = 0) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    return np.random.default_rng(seed).normal(size=(200, num_features)).astype(np.float32)


def test_components_are_those_of_a_stretched_cloud() -> None:
    images_ND = codes(3) * np.array([1, 10, 5], np.float32) + np.array([2, 0, -7], np.float32)
    found = principal_components(images_ND, 2)
    assert np.allclose(found.mean_D, images_ND.mean(0), atol=1e-4)
    assert np.allclose(np.abs(found.directions_CD), [[0, 1, 0], [0, 0, 1]], atol=0.1)
    assert np.allclose(found.directions_CD @ found.directions_CD.T, np.eye(2), atol=1e-5)


def test_cka_is_blind_to_rotation_scale_and_shift() -> None:
    first_ND = codes(6)
    rotation_DD = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0].astype(np.float32)
    assert linear_cka(first_ND, 3 * first_ND @ rotation_DD + 5) == pytest.approx(1, abs=1e-5)
    assert linear_cka(first_ND, codes(6, seed=2)) < 0.2


def test_cka_of_a_hand_computed_pair() -> None:
    # Centred Gram matrices of three points on a line at -1, 0, 1 and at -1, 1, 0: <K, L> = 1, |K|² = |L|² = 4.
    first_ND, second_ND = (np.array(places, np.float32)[:, None] for places in ([-1, 0, 1], [-1, 1, 0]))
    assert linear_cka(first_ND, second_ND) == pytest.approx(1 / 4)


def test_a_constant_code_is_like_none() -> None:
    assert linear_cka(codes(4), np.ones((200, 4), np.float32)) == 0


def test_a_map_keeps_groups_together_and_can_be_made_again() -> None:
    draw = np.random.default_rng(0)
    labels_N = np.repeat(np.arange(4), 30)
    codes_ND = (10 * np.eye(4, 20)[labels_N] + draw.normal(size=(120, 20))).astype(np.float32)
    places_N2 = map_of_codes(codes_ND, 0)
    distances_NN = np.linalg.norm(places_N2[:, None] - places_N2[None], axis=2) + np.diag(np.full(120, np.inf))
    assert (labels_N[distances_NN.argmin(axis=1)] == labels_N).all()
    assert np.array_equal(map_of_codes(codes_ND, 0), places_N2)
    assert map_of_codes(codes_ND[:5], 0).shape == (5, 2)
