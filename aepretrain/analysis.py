"""Principal components, similarity of codes (CKA), and two-dimensional maps (t-SNE).

Shapes: N images, D features, C components.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits


@dataclass(frozen=True)
class Components:
    """Principal components: rows of `directions_CD` are orthonormal, in the order of the variance they explain."""

    mean_D: NDArray[np.float32]
    directions_CD: NDArray[np.float32]


def principal_components(images_ND: NDArray[np.float32], num: int) -> Components:
    """The first `num` principal components of images (scikit-learn's PCA, not whitened)."""
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # equal images have no variance to explain
        pca = PCA(num, svd_solver="covariance_eigh").fit(images_ND)
    return Components(pca.mean_.astype(np.float32), pca.components_.astype(np.float32))


def linear_cka(first_ND: NDArray[np.float32], second_NE: NDArray[np.float32]) -> float:
    """Linear centred kernel alignment of two codes of the same images, from 0 to 1 (Kornblith et al. 2019, section 3).

    Computed from Gram matrices, whose size does not depend on the number of features. 0 for a constant code.
    """
    first_NN, second_NN = (_centred_gram(codes_ND) for codes_ND in (first_ND, second_NE))
    norms = np.linalg.norm(first_NN) * np.linalg.norm(second_NN)
    return float(np.vdot(first_NN, second_NN) / norms) if norms else 0.0


def _centred_gram(codes_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    centred_ND = codes_ND - codes_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    gram_NN: NDArray[np.float64] = (centred_ND @ centred_ND.T).astype(np.float64)
    return gram_NN


def map_of_codes(codes_ND: NDArray[np.float32], random_state: int) -> NDArray[np.float32]:
    """A map of codes in two dimensions by t-SNE (van der Maaten and Hinton 2008), [N, 2].

    With scikit-learn's defaults, and a smaller perplexity for few images. Neighbours stay neighbours; distances between
    groups and their sizes mean nothing. One thread, like everything in a worker process.
    """
    from sklearn.manifold import TSNE

    with threadpool_limits(1):
        places_N2: NDArray[np.float32] = TSNE(
            perplexity=min(30.0, (len(codes_ND) - 1) / 3), random_state=random_state
        ).fit_transform(codes_ND)
    return places_N2
