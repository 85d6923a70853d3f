"""Gaussians against matrix formulas at 50 digits, and the laws of their calculus."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf
from torch import Tensor

from refdiff import gaussian as g
from refdiff.gaussian import Gaussian

ULP = 2.0**-52
mpmath.mp.dps = 50

seeds = st.integers(0, 2**31)
dimensions = st.integers(1, 4)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(seed: int, D: int) -> Tensor:
    """A random covariance that does not commute with another; its condition number is at most about 100."""
    root = normal(seed, D, D)
    return root @ root.mT / D + torch.eye(D, dtype=torch.float64) / 4


def law(seed: int, D: int) -> tuple[Tensor, Tensor]:
    return normal(seed + 1, D), covariance(seed + 2, D)


def exact(x: Tensor) -> mpmath.matrix:
    return mpmath.matrix(x.tolist())


def rounding(*covariances: Tensor) -> float:
    """Relative error of an inverse or a root: a few D ulp times the condition number of what is factored."""
    worst = max(float(torch.linalg.cond(cov).max()) for cov in covariances)
    return 16 * covariances[0].shape[-1] * ULP * worst


def assert_close(got: Tensor, want: mpmath.matrix | mpf | Tensor, bound: float) -> None:
    """The largest difference is at most the bound times the largest entry, or 1."""
    if isinstance(want, Tensor):
        reference = want
    else:
        rows = want.tolist() if isinstance(want, mpmath.matrix) else want
        reference = torch.tensor(rows, dtype=torch.float64)
    reference = reference.to(got.dtype).reshape(got.shape)
    assert float((got - reference).abs().max()) <= bound * max(1.0, float(reference.abs().max()))


def mp_log_density(x: Tensor, mean: Tensor, cov: Tensor) -> mpf:
    d, S = exact(x) - exact(mean), exact(cov)
    return -((d.T * S**-1 * d)[0] + mpmath.log(mpmath.det(2 * mpmath.pi * S))) / 2


def mp_root(S: mpmath.matrix) -> mpmath.matrix:
    values, axes = mpmath.eigsy(S)
    return axes * mpmath.diag([mpmath.sqrt(v) for v in values]) * axes.T


def mp_kl(m_0: Tensor, S_0: Tensor, m_1: Tensor, S_1: Tensor) -> mpf:
    d, A, B = exact(m_1) - exact(m_0), exact(S_0), exact(S_1)
    inverse = B**-1
    ratio = inverse * A
    trace = sum(ratio[i, i] for i in range(ratio.rows))
    return (trace - ratio.rows - mpmath.log(mpmath.det(ratio)) + (d.T * inverse * d)[0]) / 2


def mp_w2(m_0: Tensor, S_0: Tensor, m_1: Tensor, S_1: Tensor) -> mpf:
    d, A, B = exact(m_1) - exact(m_0), exact(S_0), exact(S_1)
    root = mp_root(B)
    middle = A + B - 2 * mp_root(root * A * root)
    return (d.T * d)[0] + sum(middle[i, i] for i in range(middle.rows))


@given(seeds, dimensions)
def test_log_density_and_entropy_are_their_formulas(seed: int, D: int) -> None:
    (mean, cov), x = law(seed, D), normal(seed + 5, D)
    want = mp_log_density(x, mean, cov)
    assert_close(g.log_density(x, mean, cov), want, rounding(cov))
    entropy = mpmath.log(mpmath.det(2 * mpmath.pi * mpmath.e * exact(cov))) / 2
    assert_close(g.entropy(cov), entropy, rounding(cov))
    assert abs(float(want) - float(g.log_density(x, mean, cov / 2))) > rounding(cov)


@given(seeds, dimensions)
def test_kl_is_its_formula_in_that_order(seed: int, D: int) -> None:
    p, q = law(seed, D), law(seed + 7, D)
    bound = rounding(p[1], q[1])
    assert_close(g.kl(*p, *q), mp_kl(*p, *q), bound)
    assert abs(float(mp_kl(*q, *p)) - float(g.kl(*p, *q))) > bound


@given(seeds, dimensions, st.integers(3, 12))
def test_kl_of_near_laws_keeps_its_digits(seed: int, D: int, k: int) -> None:
    mean, cov = law(seed, D)
    change = covariance(seed + 9, D)
    near = cov + change * 10.0**-k
    want = float(mp_kl(mean, near, mean, cov))
    # the difference of near covariances is exact, so the whitened change is known to its condition
    bound = rounding(cov) * want
    assert abs(float(g.kl(mean, near, mean, cov)) - want) <= bound
    if k >= 6:
        ratio = torch.linalg.solve(cov, near)
        assert abs(float(ratio.trace() - D - torch.logdet(ratio)) / 2 - want) > bound


@given(seeds, dimensions)
def test_kl_is_positive_and_zero_for_the_same_law(seed: int, D: int) -> None:
    p, q = law(seed, D), law(seed + 7, D)
    assert g.kl(*p, *q) > 0 and g.kl(*p, *p) == 0


@given(seeds, dimensions)
def test_w2_is_its_formula(seed: int, D: int) -> None:
    p, q = law(seed, D), law(seed + 7, D)
    bound = rounding(p[1], q[1])
    assert_close(g.wasserstein_2_squared(*p, *q), mp_w2(*p, *q), bound)
    # the roots in place of the root of the product: equal only where the covariances commute
    apart = mp_root(exact(p[1])) - mp_root(exact(q[1]))
    d = exact(p[0]) - exact(q[0])
    broken = (d.T * d)[0] + sum(entry**2 for entry in apart)
    if D > 1:
        assert abs(float(broken) - float(g.wasserstein_2_squared(*p, *q))) > bound


@given(seeds, dimensions)
def test_w2_is_a_metric_that_ignores_rotation(seed: int, D: int) -> None:
    p, q, r = law(seed, D), law(seed + 7, D), law(seed + 11, D)
    rotation, _ = torch.linalg.qr(normal(seed + 13, D, D))
    bound = rounding(p[1], q[1], r[1])
    distance = g.wasserstein_2_squared(*p, *q)
    assert_close(g.wasserstein_2_squared(*q, *p), distance, bound)
    turned = [g.affine_push_forward(*x, rotation, torch.zeros(D, dtype=torch.float64)) for x in (p, q)]
    assert_close(g.wasserstein_2_squared(*turned[0], *turned[1]), distance, bound)
    sides = [g.wasserstein_2_squared(*x, *y).sqrt() for x, y in ((p, q), (q, r), (p, r))]
    assert sides[2] <= sides[0] + sides[1] + bound


def test_w2_of_singular_laws_is_the_distance_on_their_line() -> None:
    zero, line = (
        torch.zeros(2, dtype=torch.float64),
        torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64),
    )
    got = g.wasserstein_2_squared(zero, line, zero, 4 * line)
    # the roots differ by the root of the line, of squared norm 5; the root of a zero is sqrt(ulp) off
    assert float(got) == pytest.approx(5.0, abs=8 * math.sqrt(ULP))
    assert float(g.wasserstein_2_squared(zero, 0 * line, zero, line)) == pytest.approx(5.0, rel=16 * ULP)


def model(seed: int, D: int, E: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """mu, Lambda^-1, A, b, L^-1 of a linear Gaussian model."""
    return (*law(seed, D), normal(seed + 3, E, D), normal(seed + 4, E), covariance(seed + 6, E))


@given(seeds, dimensions, dimensions)
def test_bayes_rule_holds_pointwise(seed: int, D: int, E: int) -> None:
    mu, cov, A, b, L_inv = model(seed, D, E)
    x, y = normal(seed + 20, D), normal(seed + 21, E)
    prior = g.log_density(x, mu, cov)
    likelihood = g.log_density(y, A @ x + b, L_inv)
    evidence = g.log_density(y, *g.marginal(mu, cov, A, b, L_inv))
    mean, posterior_cov = g.condition(mu, cov, A, b, L_inv, y)
    posterior = g.log_density(x, mean, posterior_cov)
    both = g.log_density(torch.cat([x, y]), *g.joint(mu, cov, A, b, L_inv))
    bound = rounding(cov, L_inv, g.marginal(mu, cov, A, b, L_inv)[1], posterior_cov)
    bound *= 1 + sum(float(term.abs()) for term in (prior, likelihood, evidence, posterior))
    assert abs(prior + likelihood - (evidence + posterior)) <= bound
    assert abs(prior + likelihood - both) <= bound * float(
        torch.linalg.cond(g.joint(mu, cov, A, b, L_inv)[1])
    )
    without_noise = g.log_density(y, A @ mu + b, L_inv)
    assert abs(prior + likelihood - (without_noise + posterior)) > bound


@given(seeds, dimensions, dimensions)
def test_conditioning_is_the_precision_form(seed: int, D: int, E: int) -> None:
    mu, cov, A, b, L_inv = model(seed, D, E)
    y = normal(seed + 21, E)
    mean, posterior_cov = g.condition(mu, cov, A, b, L_inv, y)
    Lambda, L, F = exact(cov) ** -1, exact(L_inv) ** -1, exact(A)
    Sigma = (Lambda + F.T * L * F) ** -1
    want = Sigma * (F.T * L * (exact(y) - exact(b)) + Lambda * exact(mu))
    bound = rounding(cov, L_inv, g.marginal(mu, cov, A, b, L_inv)[1])
    assert_close(posterior_cov, Sigma, bound)
    assert_close(mean, want, bound)
    with pytest.raises(AssertionError):
        assert_close(mean, Sigma * (F.T * L * (exact(y) + exact(b)) + Lambda * exact(mu)), bound)


@given(seeds, dimensions)
def test_conditioning_without_noise_is_certain(seed: int, D: int) -> None:
    mu, cov = law(seed, D)
    identity, zero = torch.eye(D, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)
    y = normal(seed + 21, D)
    mean, posterior_cov = g.condition(mu, cov, identity, zero, 0 * cov, y)
    assert_close(mean, y, rounding(cov))
    assert_close(posterior_cov, 0 * cov, rounding(cov))


@given(seeds, dimensions)
def test_the_product_of_densities_is_a_scaled_density(seed: int, D: int) -> None:
    p, q, x = law(seed, D), law(seed + 7, D), normal(seed + 20, D)
    mean, cov = g.product(*p, *q)
    scale = g.log_density(p[0], q[0], p[1] + q[1])
    terms = [g.log_density(x, *p), g.log_density(x, *q), scale, g.log_density(x, mean, cov)]
    bound = rounding(p[1], q[1], p[1] + q[1], cov) * (1 + sum(float(term.abs()) for term in terms))
    assert abs(terms[0] + terms[1] - terms[2] - terms[3]) <= bound
    assert abs(terms[0] + terms[1] - terms[3]) > bound
    assert_close(g.product(*q, *p)[0], mean, rounding(p[1], q[1], p[1] + q[1]))


@given(seeds, dimensions, dimensions)
def test_pushing_forward_twice_is_once_by_the_product(seed: int, D: int, E: int) -> None:
    mu, cov, A, b, Q = model(seed, D, E)
    B, c, R = normal(seed + 30, D, E), normal(seed + 31, D), covariance(seed + 32, D)
    twice = g.affine_push_forward(*g.affine_push_forward(mu, cov, A, b, Q), B, c, R)
    once = g.affine_push_forward(mu, cov, B @ A, B @ b + c, B @ Q @ B.mT + R)
    # sums of products of at most D E terms, against the size of the terms
    size = (1 + float(B.abs().max())) ** 2 * (1 + float(A.abs().max())) ** 2
    assert_close(twice[0], once[0], 16 * D * E * ULP * size)
    assert_close(twice[1], once[1], 16 * D * E * ULP * size)
    dropped = g.affine_push_forward(mu, cov, B @ A, B @ b + c, B @ Q @ B.mT)
    assert float((dropped[1] - twice[1]).abs().max()) > 1e-3


def test_a_batch_of_laws_is_its_laws() -> None:
    means, covs = normal(1, 5, 3), torch.stack([covariance(seed, 3) for seed in range(5)])
    others = torch.stack([covariance(seed + 50, 3) for seed in range(5)])
    for f in (g.kl, g.wasserstein_2_squared):
        together = f(means, covs, means.flip(0), others)
        alone = torch.stack([f(means[i], covs[i], means[4 - i], others[i]) for i in range(5)])
        assert_close(together, alone, rounding(covs, others))
    x = normal(2, 5, 3)
    alone = torch.stack([g.log_density(x[i], means[i], covs[i]) for i in range(5)])
    assert_close(g.log_density(x, means, covs), alone, rounding(covs))


variances = st.floats(1e-8, 1e8)


@given(st.floats(-10, 10), variances, st.floats(-10, 10))
def test_elementwise_log_prob_and_entropy_are_their_formulas(mean: float, variance: float, x: float) -> None:
    made = Gaussian(torch.tensor([mean]).double(), torch.tensor([variance]).double())
    point = torch.tensor([x]).double()
    m, v, at = (mpf(t.item()) for t in (made.mean, made.variance, point))
    square, log = (at - m) ** 2 / (2 * v), mpmath.log(2 * mpmath.pi * v) / 2
    # the difference x - mean is exact to an ulp of itself, the two terms to a few of their own
    terms = float(abs(square) + abs(mpmath.log(v)) + 2)
    assert abs(made.log_prob(point).item() - (-square - log)) <= 8 * ULP * terms
    assert abs(made.entropy().item() - (log + mpf(1) / 2)) <= 8 * ULP * terms
    if abs(math.log(variance)) > 1:
        assert abs(made.log_prob(point).item() - (-square * v / v**2 - log)) > 8 * ULP * terms or at == m


@given(st.floats(-3, 3), variances, st.floats(-3, 3), variances)
def test_elementwise_kl_is_the_full_one_in_one_dimension(
    m_0: float, v_0: float, m_1: float, v_1: float
) -> None:
    p = Gaussian(torch.tensor([m_0]).double(), torch.tensor([v_0]).double())
    q = Gaussian(torch.tensor([m_1]).double(), torch.tensor([v_1]).double())
    want = mp_kl(p.mean, p.variance.reshape(1, 1), q.mean, q.variance.reshape(1, 1))
    # far laws: a few roundings of terms of one size; near ones: the excess to an ulp
    assert abs(p.kl(q).item() - want) <= 16 * ULP * (abs(want) + float(abs(mpmath.log(mpf(v_0) / mpf(v_1)))))
    full = g.kl(p.mean, p.variance.reshape(1, 1), q.mean, q.variance.reshape(1, 1))
    assert abs(full - p.kl(q).item()) <= 32 * ULP * (float(want) + abs(math.log(v_0 / v_1)))


@given(variances, st.floats(-15, -1))
def test_elementwise_kl_of_near_laws_keeps_its_digits(v: float, exponent: float) -> None:
    zero, v_1 = torch.zeros(1).double(), torch.tensor([v]).double()
    v_0 = v_1 * (1 + 10**exponent)
    want = mp_kl(zero, v_0.reshape(1, 1), zero, v_1.reshape(1, 1))
    got = Gaussian(zero, v_0).kl(Gaussian(zero, v_1)).item()
    assert abs(got - want) <= 16 * ULP * want
    if -14 < exponent < -6:
        ratio = v_0.item() / v_1.item()
        assert abs((ratio - 1 - math.log(ratio)) / 2 - want) > 16 * ULP * want


def test_log_prob_is_normalised() -> None:
    made = Gaussian(torch.tensor([0.25]).double(), torch.tensor([0.75]).double())
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    dense = Gaussian(made.mean.expand(4001), made.variance.expand(4001)).log_prob(x).exp()
    # the trapezoidal rule of an analytic function that vanishes at both ends converges beyond any power
    assert float(torch.trapezoid(dense, x)) == pytest.approx(1, abs=4001 * ULP)
    assert float(torch.trapezoid(dense * (x - 0.25) ** 2, x)) == pytest.approx(0.75, abs=4001 * ULP)


@given(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]), seeds)
def test_a_sample_is_affine_in_the_noise(dtype: torch.dtype, seed: int) -> None:
    mean, noise = normal(seed, 3, 2).to(dtype), normal(seed + 1, 3, 2).to(dtype)
    made = Gaussian(mean, torch.tensor([[0.25], [4.0], [0.0]], dtype=dtype))
    sample = made.sample(noise)
    assert sample.dtype == dtype and sample.shape == mean.shape
    assert torch.equal(sample[2], mean[2])
    assert torch.equal(sample[:2], mean[:2] + torch.tensor([[0.5], [2.0]], dtype=dtype) * noise[:2])
    assert torch.equal(made.sample(torch.zeros_like(mean)), mean)
    assert made.entropy()[2, 0] == -math.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_full_covariances_in_any_dtype_are_the_float64_result_cast_once(dtype: torch.dtype) -> None:
    (m_0, S_0), (m_1, S_1) = ((m.to(dtype), S.to(dtype)) for m, S in (law(1, 3), law(2, 3)))
    for f in (g.kl, g.wasserstein_2_squared):
        got = f(m_0, S_0, m_1, S_1)
        assert got.dtype == dtype
        assert torch.equal(got, f(m_0.double(), S_0.double(), m_1.double(), S_1.double()).to(dtype))
    low = g.product(m_0, S_0, m_1, S_1)
    high = g.product(m_0.double(), S_0.double(), m_1.double(), S_1.double())
    assert all(torch.equal(a, b.to(dtype)) for a, b in zip(low, high, strict=True))


def test_all_of_it_runs_on_the_device_and_on_meta(device: torch.device) -> None:
    for where in (device, torch.device("meta")):
        m_0, S_0, A, b, Q = (t.to(where) for t in model(1, 3, 2))
        y = b.clone()
        results = [
            *g.affine_push_forward(m_0, S_0, A, b, Q),
            *g.joint(m_0, S_0, A, b, Q),
            *g.condition(m_0, S_0, A, b, Q, y),
            *g.product(m_0, S_0, m_0, S_0),
            g.log_density(m_0, m_0, S_0),
            g.entropy(S_0),
            g.kl(m_0, S_0, m_0, S_0),
            g.wasserstein_2_squared(m_0, S_0, m_0, S_0),
        ]
        made = Gaussian(m_0, S_0.diagonal())
        results += [made.sample(m_0), made.log_prob(m_0), made.entropy(), made.kl(made)]
        assert all(result.device.type == where.type for result in results)


ONE = torch.ones(2, 3)
MEAN, COV = torch.zeros(2), torch.eye(2)
REFUSED: list[tuple[str, Callable[[], object]]] = [
    (r"variance must be at least 0, got -1.0", lambda: Gaussian(ONE, -ONE)),
    (r"variance must be at least 0, got nan", lambda: Gaussian(ONE, ONE * math.nan)),
    (
        r"variance must broadcast to mean, \(2, 3\), got \(4, 2, 3\)",
        lambda: Gaussian(ONE, torch.ones(4, 2, 3)),
    ),
    (r"variance must broadcast to mean, \(2, 3\), got \(2,\)", lambda: Gaussian(ONE, torch.ones(2))),
    (r"variance must have the dtype of mean", lambda: Gaussian(ONE, ONE.double())),
    (r"mean must be a floating-point tensor, got torch.int64", lambda: Gaussian(ONE.long(), ONE)),
    (
        r"noise must have the shape of mean, \(2, 3\), got \(1, 3\)",
        lambda: Gaussian(ONE, ONE).sample(ONE[:1]),
    ),
    (r"noise must have the dtype of mean", lambda: Gaussian(ONE, ONE).sample(ONE.double())),
    (r"variance must be positive", lambda: Gaussian(ONE, 0 * ONE).log_prob(ONE)),
    (r"variance of other must be positive", lambda: Gaussian(ONE, ONE).kl(Gaussian(ONE, 0 * ONE))),
    (r"cov must be positive definite, got the eigenvalue -1.0", lambda: g.log_density(MEAN, MEAN, -COV)),
    (
        r"cov must be symmetric, got entries that differ by 2.0",
        lambda: g.entropy(COV + 2 * COV[[1, 0]].triu()),
    ),
    (r"cov must have shape \(\*, D, D\), got \(2, 1\)", lambda: g.entropy(COV[:, :1])),
    (r"cov_0 must be positive definite", lambda: g.kl(MEAN, 0 * COV, MEAN, COV)),
    (r"mean_1 must have shape \(\*, 2\), got \(3,\)", lambda: g.kl(MEAN, COV, torch.zeros(3), torch.eye(3))),
    (r"cov_1 must have no eigenvalue below 0", lambda: g.wasserstein_2_squared(MEAN, COV, MEAN, -COV)),
    (r"mean must have shape \(\*, 2\), got \(3,\)", lambda: g.log_density(MEAN, torch.zeros(3), COV)),
    (r"x must have shape \(\*, 2\), got \(3,\)", lambda: g.log_density(torch.zeros(3), MEAN, COV)),
    (r"cov must have the dtype of mean", lambda: g.log_density(MEAN, MEAN, COV.double())),
    (r"A must have shape \(\*, E, 2\)", lambda: g.affine_push_forward(MEAN, COV, torch.eye(3), MEAN)),
    (
        r"b must have shape \(\*, 2\), got \(3,\)",
        lambda: g.affine_push_forward(MEAN, COV, COV, torch.zeros(3)),
    ),
    (r"Q must have shape \(\*, 2, 2\)", lambda: g.affine_push_forward(MEAN, COV, COV, MEAN, torch.eye(3))),
    (r"y must have shape \(\*, 2\)", lambda: g.condition(MEAN, COV, COV, MEAN, COV, torch.zeros(3))),
]


@pytest.mark.parametrize(("message", "call"), REFUSED, ids=[message for message, _ in REFUSED])
def test_bad_input_is_refused_by_name_bound_and_value(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
