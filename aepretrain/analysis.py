"""Images and codes in, maps and likeness out: principal components, CKA. Shapes: N images, D features, C components."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Components:
    """Principal components: rows of `directions_CD` are orthonormal, in the order of the variance they explain."""

    mean_D: NDArray[np.float32]
    directions_CD: NDArray[np.float32]


def principal_components(images_ND: NDArray[np.float32], num: int) -> Components:
    """The `num` directions in which images vary most (scikit-learn's PCA by the covariance matrix; not whitened)."""
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # images that do not vary leave no variance to be explained
        fitted = PCA(num, svd_solver="covariance_eigh").fit(images_ND)
    return Components(fitted.mean_.astype(np.float32), fitted.components_.astype(np.float32))


def linear_cka(first_ND: NDArray[np.float32], second_NE: NDArray[np.float32]) -> float:
    """Linear centred kernel alignment of two codes of the same images, from 0 to 1 (Kornblith et al. 2019, section 3).

    By the images' Gram matrices, whose size does not depend on the number of features. 0 where a code is constant.
    """
    first_NN, second_NN = (_centred_gram(codes_ND) for codes_ND in (first_ND, second_NE))
    norms = np.linalg.norm(first_NN) * np.linalg.norm(second_NN)
    return float(np.vdot(first_NN, second_NN) / norms) if norms else 0.0


def _centred_gram(codes_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    centred_ND = codes_ND - codes_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    gram_NN: NDArray[np.float64] = (centred_ND @ centred_ND.T).astype(np.float64)
    return gram_NN
