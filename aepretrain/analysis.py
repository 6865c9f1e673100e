"""Codes of images: principal components, similarity (CKA), maps (t-SNE), effective rank and a linear probe.

Shapes: N images, M other images, D features, C components.
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
    """The first `num` principal components of images, or as many as there are (scikit-learn's PCA, not whitened)."""
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # equal images have no variance to explain
        pca = PCA(min(num, *images_ND.shape), svd_solver="covariance_eigh").fit(images_ND)
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


def effective_rank(codes_ND: NDArray[np.float32]) -> float:
    """The effective rank of codes, from 1 to D: the exponential of the entropy of the squared singular values' shares.

    After Roy and Vetterli 2007, who take the singular values themselves. Codes are not centred. 0 where all are zero.
    """
    codes_ND = codes_ND.astype(np.float64)
    squares_D = np.linalg.eigvalsh(codes_ND.T @ codes_ND).clip(min=0)  # of the codes' singular values
    if not squares_D.sum():
        return 0.0
    shares_D = squares_D[squares_D > 0] / squares_D.sum()
    return float(np.exp(-(shares_D * np.log(shares_D)).sum()))


def probe_accuracy(
    codes_ND: NDArray[np.float32],
    labels_N: NDArray[np.integer],
    test_codes_MD: NDArray[np.float32],
    test_labels_M: NDArray[np.integer],
) -> float:
    """The accuracy on test codes of multinomial logistic regression on standardised codes.

    scikit-learn's `LogisticRegression` with its default penalty (C = 1), which runs until it has converged. One thread,
    like everything in a worker process.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    with threadpool_limits(1):
        probe.fit(codes_ND.astype(np.float64), labels_N)
        return float(probe.score(test_codes_MD.astype(np.float64), test_labels_M))


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
