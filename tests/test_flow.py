"""Paths, velocities and losses of flow matching: each law with a broken form that it rejects."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import scipy.integrate
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import misfit, tensors
from torch import Tensor

from refdiff import flow
from refdiff.data import GaussianLaw, Law, MixtureLaw, PointMass

D = torch.float64
PATHS = [flow.path(name, data_at) for name in flow.PATHS for data_at in (0, 1)]
CURVED = [flow.path(name) for name in ("trigonometric", "vp", "subvp", "ve", "edm")]
STRAIGHT = [flow.path("rectified"), flow.path("transport", sigma_min=0.1)]
INSIDE = torch.tensor([0.03, 0.2, 0.5, 0.71, 0.98], dtype=D)
GAUSSIAN = GaussianLaw(torch.tensor([1.5, -0.5], dtype=D), torch.tensor([[2.0, 0.5], [0.5, 0.4]], dtype=D))
MIXTURE = MixtureLaw(
    torch.tensor([0.25, 0.75], dtype=D),
    torch.tensor([[1.0, -2.0], [0.5, 1.5]], dtype=D),
    torch.tensor([[[2.0, 0.5], [0.5, 1.0]], [[0.3, 0.1], [0.1, 0.2]]], dtype=D),
)
paths = st.sampled_from(PATHS)
fractions = st.floats(0.01, 0.99)


def times(path: flow.Path) -> Tensor:
    return INSIDE * path.end


def column(value: Tensor) -> Tensor:
    return value.reshape(-1, 1)


def derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    t = t.clone().requires_grad_()
    return torch.autograd.grad((function(t) + 0 * t).sum(), t)[0]


# Paths.


def slopes_belong(path: flow.Path, scale_slope: Tensor, std_slope: Tensor, W: Tensor) -> float:
    t = times(path)
    # a dozen operations; those of VP are exponentials of arguments of size up to 10
    first = misfit(scale_slope, derivative(path.scale, t), scale_slope, 64)
    # automatic differentiation takes the difference of the two parts of a diffusion's slope
    drift = path.scale_slope(t) / path.scale(t) * path.std(t)
    second = misfit(std_slope, derivative(path.std, t), std_slope.abs() + drift.abs(), 64)
    parts = path.scale(t) * std_slope, path.scale_slope(t) * path.std(t)
    return max(first, second, misfit(W, parts[0] - parts[1], parts[0].abs() + parts[1].abs(), 64))


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_slopes_and_determinant_are_those_of_the_path(path: flow.Path) -> None:
    t = times(path)
    slopes = path.scale_slope(t), path.std_slope(t)
    assert slopes_belong(path, *slopes, path.determinant(t)) <= 1
    assert slopes_belong(path, slopes[0], slopes[1] / 2, path.determinant(t)) > 1
    assert slopes_belong(path, *slopes, -path.determinant(t)) > 1
    half = path.determinant(t) * path.std(t) / path.scale(t)
    assert misfit(path.half_diffusion(t), half, half, 64) <= 1
    speed = -derivative(path.log_snr, t) * path.scale(t) * path.std(t)
    assert misfit(path.determinant(t), speed, speed, 256) <= 1


def test_ends_are_data_and_noise() -> None:
    for name in ("rectified", "trigonometric"):
        path = flow.path(name)
        ends = torch.tensor([0.0, 1.0], dtype=D)
        assert torch.equal(path.scale(ends), 1 - ends) and torch.equal(path.std(ends), ends)
        back = flow.path(name, data_at=1)
        assert torch.equal(back.scale(ends), ends) and back.data_at == 1 and path.data_at == 0
    left = flow.path("transport", sigma_min=0.25)
    assert float(left.std(0.0)) == 0.25 and float(left.std(1.0)) == 1.0


@given(paths, fractions)
def test_a_reversed_path_has_the_opposite_velocity(path: flow.Path, fraction: float) -> None:
    x_0, eps = tensors(2)
    t = fraction * path.end
    back = path.end - t
    there = flow.conditional_velocity(path, x_0, t, eps)
    other = flow.conditional_velocity(flow.Reversed(path), x_0, back, eps)
    # path.end - back is t up to a rounding of the end, which the slope of the velocity enlarges
    near = flow.conditional_velocity(path, x_0, path.end - back, eps)
    assert torch.equal(other, -near)
    assert misfit(other, -there, there.abs() + 1e3 * (x_0.abs() + eps.abs()) * path.end, 1e4) <= 1


# What velocity, noise, data and score say of each other.


def conversions_agree(
    velocity: Callable[..., Tensor], x_0_of: Callable[..., Tensor], path: flow.Path, t: Tensor
) -> float:
    x_0, eps = tensors(2, (5, 3))
    x, u = flow.interpolate(path, x_0, t, eps), flow.conditional_velocity(path, x_0, t, eps)
    a, b, W = column(path.scale(t)), column(path.std(t)), column(path.determinant(t)).abs()
    slope_a, slope_b = column(path.scale_slope(t)).abs(), column(path.std_slope(t)).abs()
    size = x.abs() + a * x_0.abs() + b * eps.abs()
    errors = [
        misfit(velocity(path, x, t, eps=eps), u, (slope_a * size + W * eps.abs()) / a, 64),
        misfit(velocity(path, x, t, x_0=x_0), u, (slope_b * size + W * x_0.abs()) / b, 64),
        misfit(velocity(path, x, t, score=-eps / b), u, (slope_a * size + W * eps.abs()) / a, 64),
        misfit(x_0_of(path, x, t, u), x_0, (slope_b * size + b * (u.abs() + slope_a * x_0.abs())) / W, 128),
    ]
    noise = flow.eps_from_velocity(path, x, t, u)
    condition = (slope_a * size + a * (u.abs() + slope_b * eps.abs())) / W
    errors.append(misfit(noise, eps, condition, 128))
    errors.append(misfit(flow.score_from_velocity(path, x, t, u), -eps / b, condition / b, 128))
    return max(errors)


def straight_rule(path: flow.Path, x: Tensor, t: Tensor, u: Tensor) -> Tensor:
    return x - column(path.std(t)) * u


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_velocity_noise_data_and_score_say_the_same(path: flow.Path) -> None:
    t = times(path)
    assert conversions_agree(flow.velocity, flow.x_0_from_velocity, path, t) <= 1
    turned = lambda *at, **given: -flow.velocity(*at, **given)  # noqa: E731
    assert conversions_agree(turned, flow.x_0_from_velocity, path, t) > 1


@pytest.mark.parametrize("path", CURVED[:3], ids=repr)
def test_the_rule_of_the_straight_path_is_no_rule_of_others(path: flow.Path) -> None:
    assert conversions_agree(flow.velocity, straight_rule, STRAIGHT[0], times(STRAIGHT[0])) <= 1
    assert conversions_agree(flow.velocity, straight_rule, path, times(path)) > 1


def test_the_rectified_velocity_tells_data_and_noise_at_both_ends() -> None:
    x_0, eps = tensors(2)
    u = flow.conditional_velocity(STRAIGHT[0], x_0, 0.0, eps)
    assert torch.equal(u, eps - x_0)
    for t, x in ((0.0, x_0), (1.0, eps)):
        assert misfit(flow.x_0_from_velocity(STRAIGHT[0], x, t, u), x_0, x_0.abs() + eps.abs(), 4) <= 1
        assert misfit(flow.eps_from_velocity(STRAIGHT[0], x, t, u), eps, x_0.abs() + eps.abs(), 4) <= 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda p, x: flow.velocity(p["rectified"], x, 1.0, eps=x), r"signal to convert eps, got 1\.0"),
        (lambda p, x: flow.velocity(p["rectified"], x, 1.0, score=x), "signal to convert score"),
        (lambda p, x: flow.velocity(p["rectified"], x, 0.0, x_0=x), r"noise to convert x_0, got 0\.0"),
        (lambda p, x: flow.score_from_velocity(p["rectified"], x, 0.0, x), "noise to convert score"),
        (lambda p, x: flow.conditional_velocity(p["vp"], x, 0.0, x), r"slope of std is finite, got 0\.0"),
        (lambda p, x: flow.marginal_velocity(p["vp"], GAUSSIAN, x, 0.0), "slope of std is finite"),
        (lambda p, x: flow.velocity(p["vp"], x, 0.0, eps=x), "a b' - a' b is finite and not 0"),
        (lambda p, x: flow.x_0_from_velocity(p["subvp"], x, 0.0, x), "a b' - a' b is finite and not 0"),
        (lambda p, x: flow.loss_weight(p["rectified"], 1.0, "eps"), "signal to convert eps"),
        (lambda p, x: flow.loss_weight(p["rectified"], 0.0, "x_0"), "noise to convert x_0"),
        (lambda p, x: flow.loss_weight(p["vp"], 0.5, "u"), "of must be one of eps, x_0, v, score, got 'u'"),
        (lambda p, x: flow.velocity(p["vp"], x, 0.5), r"one of eps, x_0 and score must be given, got \[\]"),
        (lambda p, x: flow.velocity(p["vp"], x, 0.5, eps=x, x_0=x), r"got \['eps', 'x_0'\]"),
        (lambda p, x: flow.velocity(p["vp"], x, 0.5, eps=x.float()), "eps must have the dtype of x"),
        (lambda p, x: flow.velocity(p["vp"], x, 1.5, eps=x), r"t must lie in 0\.\.1\.0, got 1\.5"),
        (lambda p, x: flow.velocity(p["vp"], x, torch.tensor(0.5), eps=x), "t must be a float or float64"),
        (lambda p, x: flow.velocity(p["vp"], x, torch.full((4,), 0.5, dtype=D), eps=x), "shape"),
        (lambda p, x: flow.interpolate(p["vp"], x, 0.5, x[:1]), "eps must have the shape of x_0"),
        (lambda p, x: flow.path("lipman"), "name must be one of rectified, transport"),
        (lambda p, x: flow.path("vp", data_at=2), "data_at must be 0 or 1, got 2"),
        (lambda p, x: flow.path("transport", sigma_min=0.0), "sigma_min must lie strictly between"),
        (lambda p, x: flow.gaussian_flow_map(p["rectified"], x[0], torch.zeros(2, 2, dtype=D), x, 0.0, 1.0),
         "variance along every axis"),
        (lambda p, x: flow.reflow_velocity(x[0], torch.zeros(2, 2, dtype=D), x, 0.0), "t must be above 0"),
    ],
)  # fmt: skip
def test_singular_ends_and_bad_input_are_refused(ask: Callable[..., object], message: str) -> None:
    named = {name: flow.path(name) for name in flow.PATHS}
    with pytest.raises(ValueError, match=message):
        ask(named, tensors(1, (3, 2)))


def test_the_score_tells_a_finite_velocity_at_the_data_of_vp() -> None:
    x, score = tensors(2)
    path = flow.path("vp")
    assert isinstance(path, flow.Diffusion)
    got = flow.velocity(path, x, 0.0, score=score)
    assert misfit(got, -0.05 * (x + score), x.abs() + score.abs(), 8) <= 1


# The marginal velocity.


def continuity(velocity: Callable[..., Tensor], path: flow.Path, law: Law, t: float) -> float:
    """The residual of the continuity equation, divided by the density, by automatic differentiation."""
    x = 1.5 * tensors(1, (6, 2))
    x.requires_grad_()
    at = torch.full((6,), t, dtype=D, requires_grad=True)
    log_p = law.at(path.scale(at), path.std(at)).log_prob(x)
    score, change = torch.autograd.grad(log_p.sum(), (x, at), create_graph=False, retain_graph=True)
    u = velocity(path, law, x, at.detach())
    rows = [torch.autograd.grad(u[:, k].sum(), x, retain_graph=True)[0][:, k] for k in range(2)]
    terms = [change, rows[0], rows[1], *(score * u).T]
    residual = torch.stack(terms).sum(0).detach()
    # responsibilities of a mixture have exponents that are rounded at the size of log p
    size = (
        torch.stack([term.abs() for term in terms]).sum(0) * (1 + log_p.abs()) + 1 / float(path.std(t)) ** 2
    )
    return misfit(residual, 0.0, size.detach(), 64)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_the_marginal_velocity_generates_the_marginals(path: flow.Path) -> None:
    for t in (0.2 * path.end, 0.6 * path.end):
        assert continuity(flow.marginal_velocity, path, MIXTURE, t) <= 1
        of_one_pair = lambda p, law, x, at: flow.velocity(p, x, at, x_0=0 * x)  # noqa: E731
        assert continuity(of_one_pair, path, MIXTURE, t) > 1
        turned = lambda p, law, x, at: -flow.marginal_velocity(p, law, x, at)  # noqa: E731
        assert continuity(turned, path, MIXTURE, t) > 1


def test_the_marginal_velocity_is_the_mean_of_the_targets_given_x() -> None:
    law = MixtureLaw(
        torch.tensor([0.25, 0.75], dtype=D),
        torch.tensor([[1.5], [-0.75]], dtype=D),
        torch.tensor([[[0.25]], [[0.5]]], dtype=D),
    )
    data = torch.linspace(-12, 12, 4001, dtype=D)
    prior = law.at(1.0, 0.0).log_prob(data[:, None]).exp()
    for path in (*STRAIGHT, *CURVED[:4]):
        t, x = 0.4 * path.end, torch.tensor([[-1.0], [0.3], [2.0]], dtype=D)
        a, b = path.scale(t), path.std(t)
        weight = prior * torch.exp(-0.5 * ((x - a * data) / b) ** 2)
        target = path.scale_slope(t) * data + path.std_slope(t) * (x - a * data) / b
        # the trapezoidal rule on an analytic integrand that vanishes at the ends is exact to rounding
        expected = (weight * target).sum(1) / weight.sum(1)
        size = (weight * target.abs()).sum(1) / weight.sum(1)
        assert misfit(flow.marginal_velocity(path, law, x, t)[:, 0], expected, size, 4001) <= 1
        assert misfit(target[:, 2000], expected, size, 4001) > 1


def test_without_data_the_velocity_points_to_their_mean() -> None:
    x = tensors(1)
    mean = MIXTURE.weights @ MIXTURE.means
    got = flow.marginal_velocity(STRAIGHT[0], MIXTURE, x, 1.0)
    assert misfit(got, x - mean, x.abs() + 2, 16) <= 1
    assert torch.equal(flow.marginal_velocity(STRAIGHT[0], MIXTURE, x, 0.0), -x)


def test_the_velocity_of_a_point_mass_is_that_of_its_pair() -> None:
    x_0, eps = tensors(2, (5, 2))
    law = PointMass(x_0[0])
    for path in PATHS:
        t = times(path)
        x_t = flow.interpolate(path, x_0[:1].expand(5, 2).contiguous(), t, eps)
        got = flow.marginal_velocity(path, law, x_t, t)
        expected = flow.conditional_velocity(path, x_0[:1].expand(5, 2).contiguous(), t, eps)
        a, b = column(path.scale(t)), column(path.std(t))
        slopes = column(path.std_slope(t)).abs() / b + column(path.scale_slope(t)).abs() / a
        assert misfit(got, expected, slopes * (a * x_0[0].abs() + b * eps.abs()), 64) <= 1


# Gaussian data.


def flow_map_solves(flow_map: Callable[..., Tensor], path: flow.Path) -> float:
    """The derivative by the final time is the velocity there, and the map starts at x."""
    x, t = tensors(1, (5, 2)), times(path)
    m, cov = GAUSSIAN.mean, GAUSSIAN.cov
    start = 0.5 * path.end
    assert misfit(flow_map(path, m, cov, x, start, start), x, x.abs() + 2, 64) <= 1
    s = t.clone().requires_grad_()
    moved = flow_map(path, m, cov, x, start, s)
    slope = torch.stack(
        [torch.autograd.grad(moved[:, k].sum(), s, retain_graph=True)[0] for k in range(2)], 1
    )
    u = flow.marginal_velocity(path, GAUSSIAN, moved.detach(), t)
    size = column(path.scale_slope(t)).abs() * 4 + column(path.std_slope(t)).abs() * (
        1 + moved.abs() / column(path.std(t))
    )
    return misfit(slope, u, size.detach(), 256)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_the_gaussian_flow_map_follows_the_marginal_velocity(path: flow.Path) -> None:
    assert flow_map_solves(flow.gaussian_flow_map, path) <= 1

    def of_the_noise(path: flow.Path, m: Tensor, cov: Tensor, x: Tensor, t: float, s: Tensor) -> Tensor:
        a, b = (torch.as_tensor(f(t)) for f in (path.scale, path.std))
        return column(path.scale(s) * 1) * m + column(path.std(s)) / b * (x - a * m)

    assert flow_map_solves(of_the_noise, path) > 1


def test_the_flow_map_agrees_with_an_integrator() -> None:
    x = tensors(1, (4, 2))
    for path in (STRAIGHT[0], CURVED[0], CURVED[1]):

        def field(t: float, flat: object, path: flow.Path = path) -> object:
            state = torch.as_tensor(flat).reshape(4, 2)
            return flow.marginal_velocity(path, GAUSSIAN, state, t).flatten().numpy()

        ends = (0.9, 0.1)
        run = scipy.integrate.solve_ivp(field, ends, x.flatten().numpy(), "DOP853", rtol=1e-9, atol=1e-9)
        got = flow.gaussian_flow_map(path, GAUSSIAN.mean, GAUSSIAN.cov, x, *ends)
        # the integrator promises 1e-9 a step, and the flow at most triples a distance
        assert float((got.flatten() - torch.as_tensor(run.y[:, -1])).abs().max()) < 1e-9 * 3 * len(run.t)
        wrong = flow.gaussian_flow_map(path, GAUSSIAN.mean, GAUSSIAN.cov, x, *ends[::-1])
        assert float((wrong - got).abs().max()) > 1e-3


@given(paths, fractions, fractions, fractions)
def test_the_flow_map_composes(path: flow.Path, t: float, r: float, s: float) -> None:
    x = tensors(1)
    t, r, s = t * path.end, r * path.end, s * path.end
    go = lambda y, before, after: flow.gaussian_flow_map(  # noqa: E731
        path, GAUSSIAN.mean, GAUSSIAN.cov, y, before, after
    )
    once, twice = go(x, t, s), go(go(x, t, r), r, s)
    grown = 1 + max(float(path.std(u) + path.scale(u)) for u in (t, r, s)) / float(
        min(path.std(t) + 0.5 * path.scale(t), path.std(r) + 0.5 * path.scale(r))
    )
    assert misfit(twice, once, (x.abs() + 2) * grown**2, 256) <= 1


def design(law: GaussianLaw) -> tuple[Tensor, Tensor]:
    """Data and noise with the first two moments of their laws: means of squares over them are exact."""
    root = torch.linalg.cholesky(torch.block_diag(law.cov, torch.eye(2, dtype=D)))
    points = math.sqrt(4) * torch.cat([root.mT, -root.mT])
    return (points[:, :2] + law.mean).contiguous(), points[:, 2:].contiguous()


def mean_loss(path: flow.Path, model: flow.Model, t: float) -> Tensor:
    x_0, eps = design(GAUSSIAN)
    return flow.loss(path, model, x_0, t, eps).mean()


@pytest.mark.parametrize("path", [*STRAIGHT, *CURVED], ids=repr)
def test_the_perfect_network_leaves_the_constant(path: flow.Path) -> None:
    perfect = lambda x, t: flow.marginal_velocity(path, GAUSSIAN, x, t)  # noqa: E731
    for fraction in (0.1, 0.6, 0.95):
        t = fraction * path.end
        constant = flow.loss_constant(path, GAUSSIAN.cov, t)
        size = (path.scale_slope(t) ** 2 * 8 + path.std_slope(t) ** 2 * 8).clamp(min=1e-300)
        assert misfit(mean_loss(path, perfect, t), constant, size, 64) <= 1
        worse = lambda x, t: 1.01 * perfect(x, t) + 0.1  # noqa: E731
        assert misfit(mean_loss(path, worse, t), constant, size, 64) > 1


@given(st.sampled_from([*STRAIGHT, *CURVED[:3]]), fractions, st.floats(-2, 2), st.floats(-2, 2))
def test_both_losses_have_the_same_gradient(path: flow.Path, t: float, slope: float, shift: float) -> None:
    theta = torch.tensor([slope, shift], dtype=D, requires_grad=True)
    model = lambda x, t: theta[0] * x + theta[1]  # noqa: E731
    conditional = torch.autograd.grad(mean_loss(path, model, t), theta)[0]
    x_0, eps = design(GAUSSIAN)
    x = flow.interpolate(path, x_0, t, eps)
    u = flow.marginal_velocity(path, GAUSSIAN, x, t)

    def marginal(target: Tensor) -> Tensor:
        return torch.autograd.grad(((model(x, t) - target) ** 2).sum(1).mean(), theta)[0]

    size = 50 * (1 + path.std_slope(t).abs() + path.scale_slope(t).abs())
    assert misfit(conditional, marginal(u), size, 64) <= 1
    assert misfit(conditional, marginal(u + 0.01), size, 64) > 1


@given(st.sampled_from([*STRAIGHT, *CURVED]), fractions)
def test_a_loss_is_another_with_its_weight(path: flow.Path, fraction: float) -> None:
    t = fraction * path.end
    x, error = tensors(2)
    a, b, size = path.scale(t), path.std(t), (path.scale(t) ** 2 + path.std(t) ** 2).sqrt()
    zero = torch.zeros_like(x)
    change = {name: flow.velocity(path, zero, t, **{name: error}) for name in ("eps", "x_0", "score")}
    # x_t stays: an error of v moves data by -b and noise by a, over the size
    moved = -b / size * error, a / size * error
    change["v"] = flow.conditional_velocity(path, moved[0], t, moved[1])
    for form, difference in change.items():
        weight = flow.loss_weight(path, t, form)  # type: ignore[arg-type]
        slopes = path.scale_slope(t).abs() * b + path.std_slope(t).abs() * a
        room = 64 * (1 if form != "v" else float(slopes / path.determinant(t).abs()) ** 2)
        assert misfit(difference**2, weight * error**2, weight * error**2, room) <= 1
        assert misfit(difference**2, 1.01 * weight * error**2, weight * error**2, room) > 1


def test_the_weight_of_v_is_constant_on_the_circle() -> None:
    got = flow.loss_weight(flow.path("trigonometric"), INSIDE, "v")
    assert misfit(got, (math.pi / 2) ** 2, torch.ones(5, dtype=D) * 3, 8) <= 1
    straight = flow.loss_weight(STRAIGHT[0], INSIDE, "v")
    assert float(straight[2]) == 2.0 and bool((straight[[0, 4]] < 1.2).all())


def test_the_weighted_loss_is_the_weight_times_the_loss() -> None:
    x_0, eps = tensors(2, (3, 2, 2))
    t, w = torch.tensor([0.2, 0.5, 0.9], dtype=D), torch.tensor([2.0, 0.5, 3.0], dtype=D)
    model = lambda x, t: 0.3 * x  # noqa: E731
    plain = flow.loss(STRAIGHT[0], model, x_0, t, eps)
    assert plain.shape == (3,)
    assert misfit(flow.loss(STRAIGHT[0], model, x_0, t, eps, w), w * plain, w * plain, 2) <= 1
    averaged = flow.loss(STRAIGHT[0], model, x_0, t, eps, reduction="mean")
    assert misfit(averaged, plain / 4, plain, 8) <= 1


# Straightness and reflow.


def test_straightness_is_the_integral_it_stands_for() -> None:
    eigenvalues, _ = torch.linalg.eigh(GAUSSIAN.cov)

    def at(t: float) -> float:
        width = (1 - t) ** 2 * eigenvalues + t**2
        speed = (t - (1 - t) * eigenvalues) / width.sqrt()
        return float(((speed - (1 - eigenvalues.sqrt())) ** 2).sum())

    expected, error = scipy.integrate.quad(at, 0, 1, epsabs=1e-12, epsrel=1e-12)
    got = float(flow.rectified_straightness(GAUSSIAN.cov))
    assert abs(got - expected) <= 2 * error + 64 * torch.finfo(D).eps * got
    assert abs((2 - math.pi / 2) * float(GAUSSIAN.cov.trace()) - expected) > 1e-2
    assert float(flow.rectified_straightness(torch.zeros(2, 2, dtype=D))) == 0


def straight_to_the_data(velocity: Callable[[Tensor, float], Tensor]) -> float:
    """One Euler step from the noise against the exact flow, and the velocity on the way."""
    z = tensors(1, (5, 2))
    end = flow.gaussian_flow_map(STRAIGHT[0], GAUSSIAN.mean, GAUSSIAN.cov, z, 1.0, 0.0)
    u = velocity(z, 1.0)
    error = misfit(flow.euler_step(z, 1.0, 0.0, u), end, z.abs() + end.abs() + 2, 64)
    for t in (0.75, 0.3, 0.0):
        error = max(error, misfit(velocity((1 - t) * end + t * z, t), u, z.abs() + end.abs() + 2, 64))
    return error


def test_after_a_reflow_one_step_is_exact() -> None:
    m, cov = GAUSSIAN.mean, GAUSSIAN.cov
    assert straight_to_the_data(lambda x, t: flow.reflow_velocity(m, cov, x, t)) <= 1
    assert straight_to_the_data(lambda x, t: flow.marginal_velocity(STRAIGHT[0], GAUSSIAN, x, t)) > 1


# Precision, devices, graphs.


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_float32_is_float64_rounded(path: flow.Path) -> None:
    t = times(path)
    wide = tensors(2, (5, 2))
    x_0, eps = (value.float() for value in wide)
    exact = x_0.double(), eps.double()
    got = flow.conditional_velocity(path, x_0, t, eps)
    expected = flow.conditional_velocity(path, exact[0], t, exact[1])
    size = column(path.scale_slope(t)).abs() * x_0.abs() + column(path.std_slope(t)).abs() * eps.abs()
    assert got.dtype == torch.float32 and misfit(got, expected, size, 4) <= 1
    x = flow.interpolate(path, x_0, t, eps)
    perfect = flow.marginal_velocity(path, MIXTURE, x, t)
    again = flow.marginal_velocity(path, MIXTURE, x.double(), t)
    assert perfect.dtype == torch.float32 and misfit(perfect, again, again, 1) <= 1


def test_flows_on_meta() -> None:
    x = torch.empty(3, 2, device="meta")
    t = torch.empty(3, dtype=D, device="meta")
    for path in PATHS:
        u = flow.conditional_velocity(path, x, t, x)
        others = flow.velocity(path, x, t, x_0=x), flow.x_0_from_velocity(path, x, t, u)
        steps = flow.ddim_step(path, x, t, t, u), flow.euler_step(x, t, t, u)
        for value in (u, *others, *steps, flow.loss(path, lambda x, t: x, x, t, x)):
            assert value.device.type == "meta" and value.dtype == torch.float32
