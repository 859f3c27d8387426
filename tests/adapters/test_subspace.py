"""Similarity of subspaces against scipy, and Table 7 against full decompositions."""

import math

import numpy as np
import pytest
import scipy.linalg

from lora.adapters import subspace

random = np.random.default_rng(5)


def orthonormal(count: int, width: int) -> np.ndarray:
    """Rows of a random rotation."""
    return np.linalg.qr(random.standard_normal((width, width)))[0][:count]


def with_directions(directions: np.ndarray) -> np.ndarray:
    """An A with these rows as right-singular vectors, in this order, with its rows rotated."""
    sizes = np.linspace(3, 1, len(directions))
    return orthonormal(len(directions), len(directions)) @ np.diag(sizes) @ directions


def test_phi_is_the_sum_of_squared_cosines_of_principal_angles():
    first, second = random.standard_normal((5, 20)), random.standard_normal((9, 20))
    second[:2] += 3 * first[:2]
    ours = subspace.phi(first, second)
    assert ours.shape == (5, 9)
    left, right = (scipy.linalg.svd(a.T)[0] for a in (first, second))
    for i in range(1, 6):
        for j in range(1, 10):
            angles = scipy.linalg.subspace_angles(left[:, :i], right[:, :j])
            assert ours[i - 1, j - 1] == pytest.approx(
                (np.cos(angles) ** 2).sum() / min(i, j), abs=1e-12
            )


def test_phi_of_known_subspaces():
    axes = orthonormal(10, 12)
    same = subspace.phi(with_directions(axes[:4]), with_directions(axes[:4]))
    apart = subspace.phi(with_directions(axes[:4]), with_directions(axes[4:10]))
    nested = subspace.phi(with_directions(axes[1:3]), with_directions(axes[:5]))
    assert np.allclose(same, 1) and np.allclose(apart, 0, atol=1e-12)
    assert np.allclose(nested, [[0, 1, 1, 1, 1], [0, 1 / 2, 1, 1, 1]], atol=1e-12)


def test_phi_is_symmetric_and_independent_of_the_basis():
    first, second = random.standard_normal((4, 16)), random.standard_normal((7, 16))
    ours = subspace.phi(first, second)
    assert np.allclose(subspace.phi(second, first).T, ours)
    assert np.allclose(
        subspace.phi(orthonormal(4, 4) @ first, -2 * orthonormal(7, 7) @ second), ours
    )
    rotation = orthonormal(16, 16)
    assert np.allclose(subspace.phi(first @ rotation, second @ rotation), ours)


def test_random_subspaces_have_the_expected_phi():
    """The mean over draws, within 5 standard errors from the exact variance of |U'V|^2."""
    first_rank, second_rank, width, draws = 4, 12, 40, 400
    drawn = [subspace.random_phi(first_rank, second_rank, width, draw) for draw in range(draws)]
    i, j = np.arange(1, first_rank + 1)[:, None], np.arange(1, second_rank + 1)[None, :]
    variance = 2 * i * j * (width - i) * (width - j) / (width**2 * (width - 1) * (width + 2))
    error = np.sqrt(variance / draws) / np.minimum(i, j)
    expected = subspace.expected_phi(first_rank, second_rank, width)
    assert (abs(np.mean(drawn, axis=0) - expected) < 5 * error).all()
    assert error.max() < 0.01 and expected[-1, -1] == 12 / 40 and expected[0, 0] == 1 / 40
    assert np.array_equal(drawn[3], subspace.random_phi(first_rank, second_rank, width, 3))


@pytest.mark.parametrize(
    "second, message",
    [
        (np.ones((2, 7)) + np.eye(2, 7), "two A of widths 6 and 7"),
        (np.ones((2, 6)), "A of r=2 has rank 1"),
        (np.zeros((1, 6)), "A of r=1 has rank 0"),
        (random.standard_normal((7, 6)), "A of r=7 has rank 6"),
        (np.full((1, 6), math.nan), "all of it finite"),
        (np.ones(6), r"allowed: \(rank, width\)"),
    ],
)
def test_undefined_directions_are_refused(second, message):
    with pytest.raises(ValueError, match=message):
        subspace.phi(np.eye(2, 6), second)


def test_amplification_of_a_known_w():
    """W of known singular vectors; dW is along the third and fifth, so it contains (s3, s5)."""
    left, right, sizes = orthonormal(6, 6), orthonormal(6, 6), np.array([9.0, 7, 4, 3, 2, 1])
    w = left.T @ np.diag(sizes) @ right
    mix = np.array([[2.0, 1], [-1, 3]])
    pair = subspace.Pair(np.linalg.inv(mix) @ right[[2, 4]], 5 * left[[2, 4]].T @ mix, scale=0.5)
    row = subspace.amplification(w, pair)
    assert row["delta_norm_unscaled"] == pytest.approx(5 * math.sqrt(2))
    assert row["delta_norm"] == pytest.approx(2.5 * math.sqrt(2))
    assert row["projected_delta"] == pytest.approx(math.hypot(4, 2))
    assert row["projected_w"] == pytest.approx(math.hypot(9, 7))
    assert row["w_norm"] == pytest.approx(math.sqrt(160))
    assert row["amplification"] == pytest.approx(2.5 * math.sqrt(2) / math.sqrt(20))
    assert row["amplification_unscaled"] == pytest.approx(5 * math.sqrt(2) / math.sqrt(20))


def test_amplification_equals_full_decompositions():
    w = random.standard_normal((18, 14))
    pair = subspace.Pair(
        random.standard_normal((4, 14)), random.standard_normal((18, 4)), scale=2.5
    )
    row = subspace.amplification(w, pair)

    def projected(matrix):
        left, _, right = scipy.linalg.svd(matrix)
        return np.linalg.norm(left[:, :4].T @ w @ right[:4].T)

    delta = 2.5 * pair.b_OR @ pair.a_RI
    assert row["projected_delta"] == pytest.approx(projected(delta))
    assert row["projected_w"] == pytest.approx(projected(w))
    assert row["delta_norm"] == pytest.approx(scipy.linalg.norm(delta))
    assert row["w_norm"] == pytest.approx(scipy.linalg.norm(w))


def test_the_random_column_is_that_of_gaussian_matrices():
    """Its mean square against decompositions of whole Gaussian matrices, and the expected one."""
    w = random.standard_normal((12, 12)) * np.linspace(3, 0.1, 12)
    pair = subspace.Pair(
        random.standard_normal((3, 12)), random.standard_normal((12, 3)), scale=1.0
    )
    rows = [subspace.amplification(w, pair, draw) for draw in range(600)]
    literal = []
    for _ in range(600):
        left, _, right = scipy.linalg.svd(random.standard_normal((12, 12)))
        literal.append(np.linalg.norm(left[:, :3].T @ w @ right[:3].T) ** 2)
    drawn = [row["projected_random"] ** 2 for row in rows]
    error = np.std(literal) / math.sqrt(600)
    assert abs(np.mean(drawn) - np.mean(literal)) < 5 * math.sqrt(2) * error
    assert abs(np.mean(drawn) - rows[0]["projected_random_expected"] ** 2) < 5 * error
    assert error < 0.05 * np.mean(literal) and rows[0] == subspace.amplification(w, pair, 0)


def test_the_expected_random_column_is_the_papers():
    """Table 7 of the paper: 0.33 of |W| = 61.95 in random directions; r/d = 64/12288 = 1/192.

    The paper's value is a rounded draw: a norm of about 64^2 independent numbers, with a relative
    spread of 1/sqrt(2 64^2).
    """
    w = random.standard_normal((192, 192))
    w *= 61.95 / np.linalg.norm(w)
    row = subspace.amplification(w, subspace.Pair(np.eye(1, 192), np.eye(192, 1), scale=1.0))
    expected = row["projected_random_expected"]
    assert row["w_norm"] == pytest.approx(61.95) and abs(
        expected - 0.33
    ) < 0.005 + 2 * expected / math.sqrt(2 * 64**2)


@pytest.mark.parametrize(
    "w, pair, message",
    [
        (
            np.eye(5),
            subspace.Pair(np.eye(2, 6), np.eye(6, 2), 1.0),
            r"W has shape \(5, 5\); expected \(6, 6\)",
        ),
        (np.eye(6), subspace.Pair(np.eye(2, 6), np.zeros((6, 2)), 1.0), "dW of r=2 has rank 0"),
    ],
)
def test_an_undefined_table_7_is_refused(w, pair, message):
    with pytest.raises(ValueError, match=message):
        subspace.amplification(w, pair)
