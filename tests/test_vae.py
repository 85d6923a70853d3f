"""The laws of variational autoencoders, each with a broken form that it rejects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import misfit, tensors
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from refdiff import elbo as chains
from refdiff import vae
from refdiff.elbo import FiniteChain, FiniteModel
from refdiff.gaussian import Gaussian
from refdiff.vae import LinearGaussian

SEEDS = st.integers(0, 2**31)
DIMENSIONS = st.sampled_from([(1, 1), (3, 2), (2, 3), (4, 1), (5, 5)])
Encoder = tuple[Tensor, Tensor]


def drawn(D: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[LinearGaussian, Tensor]:
    """An autoencoder and four observations."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    model = LinearGaussian(normal(D, d).to(dtype), normal(D).to(dtype), (normal(D) / 2).exp().to(dtype))
    return model, normal(4, D).to(dtype)


def encoder_for(model: LinearGaussian, x: Tensor, seed: int) -> Encoder:
    """An encoder away from the best one, with a full covariance."""
    mean, cov = model.posterior(x)
    shift, root = tensors(2, (x.shape[0], cov.shape[0]), seed=seed)[0], tensors(1, cov.shape, seed=seed + 1)
    return mean + shift, cov + root @ root.T / 4


MODELS = st.builds(lambda size, seed: drawn(*size, seed), DIMENSIONS, SEEDS)


def size_of(model: LinearGaussian, x: Tensor, cov: Tensor) -> float:
    """What the roundings of a closed form are multiplied with: its terms, the condition of its matrices."""
    marginal = model.weight @ model.weight.T + model.variance.diag()
    conditions = (torch.linalg.cond(table) for table in (marginal, cov, model.posterior(x)[1]))
    terms = (x**2).sum(-1).max() / model.variance.min() + model.weight.square().sum() / model.variance.min()
    return float((terms + 8) * sum(conditions))


def evidence_is_bound_and_gap(
    bound: Callable[..., Tensor], model: LinearGaussian, x: Tensor, seed: int
) -> float:
    encoder = encoder_for(model, x, seed)
    got = bound(model, x, *encoder) + model.gap(x, *encoder)
    return misfit(got, model.evidence(x), size_of(model, x, encoder[1]), 64 * x.shape[1] ** 2)


def prior_missing(model: LinearGaussian, x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    return model.elbo(x, mean, cov) + to_prior(mean, cov)


def divergence_turned(model: LinearGaussian, x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    law, prior = MultivariateNormal(mean, cov), standard(cov)
    return prior_missing(model, x, mean, cov) - kl_divergence(prior, law)


def entropy_missing(model: LinearGaussian, x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    return model.elbo(x, mean, cov) - MultivariateNormal(mean, cov).entropy()


def decoder_at_the_mean(model: LinearGaussian, x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    return model.decode(mean).log_prob(x).sum(-1) - to_prior(mean, cov)


def standard(cov: Tensor) -> MultivariateNormal:
    return MultivariateNormal(torch.zeros(len(cov), dtype=cov.dtype), torch.eye(len(cov), dtype=cov.dtype))


def to_prior(mean: Tensor, cov: Tensor) -> Tensor:
    return kl_divergence(MultivariateNormal(mean, cov), standard(cov))


BROKEN = {f.__name__: f for f in (prior_missing, divergence_turned, entropy_missing, decoder_at_the_mean)}


@given(MODELS, SEEDS)
def test_evidence_is_bound_plus_gap(drawn_model: tuple[LinearGaussian, Tensor], seed: int) -> None:
    model, x = drawn_model
    assert evidence_is_bound_and_gap(LinearGaussian.elbo, model, x, seed) <= 1
    assert (model.gap(x, *encoder_for(model, x, seed)) > 0).all()


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 3)])
def test_a_wrong_bound_does_not_fit_the_evidence(
    broken: Callable[..., Tensor], size: tuple[int, int]
) -> None:
    assert evidence_is_bound_and_gap(broken, *drawn(*size, 3), 4) > 1e6


@given(MODELS, SEEDS)
def test_closed_forms_are_those_of_general_gaussians(
    drawn_model: tuple[LinearGaussian, Tensor], seed: int
) -> None:
    """Evidence and gap against torch's own laws: the marginal, and the posterior by conditioning."""
    model, x = drawn_model
    mean, cov = encoder_for(model, x, seed)
    marginal = MultivariateNormal(model.shift, model.weight @ model.weight.T + model.variance.diag())
    size = size_of(model, x, cov)
    assert misfit(model.evidence(x), marginal.log_prob(x), size, 64 * x.shape[1] ** 2) <= 1
    gain = torch.linalg.solve(marginal.covariance_matrix, model.weight).T
    best, left = (x - model.shift) @ gain.T, torch.eye(len(cov), dtype=cov.dtype) - gain @ model.weight
    got = model.posterior(x)
    assert misfit(got[0], best, size, 64 * x.shape[1] ** 2) <= 1
    assert misfit(got[1], left, size, 64 * x.shape[1] ** 2) <= 1
    gap = kl_divergence(MultivariateNormal(mean, cov), MultivariateNormal(got[0], got[1]))
    assert misfit(model.gap(x, mean, cov), gap, size, 64 * x.shape[1] ** 2) <= 1


@given(MODELS)
def test_the_best_encoder_leaves_no_gap_and_the_bound_is_flat_there(
    drawn_model: tuple[LinearGaussian, Tensor],
) -> None:
    model, x = drawn_model
    mean, cov = (part.requires_grad_() for part in model.posterior(x))
    size = size_of(model, x, cov.detach())
    slack = 64 * x.shape[1] ** 2 * torch.finfo(torch.float64).eps * size
    assert model.gap(x, mean, cov).abs().max() <= slack
    slopes = torch.autograd.grad(model.elbo(x, mean, cov).sum(), (mean, cov))
    # the slope in the covariance is a difference of precisions, of that size for each observation
    precision = torch.linalg.inv(cov.detach()).abs().max()
    assert all(slope.abs().max() <= slack * precision * len(x) for slope in slopes)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_evidence_is_an_integral_over_codes(seed: int) -> None:
    """Trapezoids on a grid converge beyond all digits for a Gaussian."""
    model, x = drawn(1, 1, seed)
    z = torch.linspace(-12, 12, 40001, dtype=torch.float64)[:, None]
    joint = model.decode(z).log_prob(x[:1].expand(len(z), 1)).exp()[:, 0] * (-(z[:, 0] ** 2) / 2).exp()
    integral = joint.sum() * (24 / 40000) / math.sqrt(2 * math.pi)
    assert misfit(model.evidence(x[:1])[0], integral.log(), size_of(model, x, torch.eye(1).double()), 64) <= 1


# One noise, several dimensions.


def nodes(dimensions: int, count: int = 3) -> Iterator[tuple[Tensor, float]]:
    """Noises and weights that give the mean of a polynomial of degree 2·count − 1 of normal noise exactly."""
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    weights = weights / weights.sum()
    for index in itertools.product(range(count), repeat=dimensions):
        noise = torch.tensor([points[k] for k in index], dtype=torch.float64)
        yield noise, math.prod(weights[k] for k in index)


def sampled_mean(bound: Callable[..., Tensor], model: LinearGaussian, x: Tensor, encoder: Encoder) -> Tensor:
    """The mean over the noise of the bound from one noise."""
    mean, variance = encoder
    total = torch.zeros(len(x), dtype=torch.float64)
    for noise, weight in nodes(mean.shape[1]):
        total = total + weight * bound(model.decode, x, mean, variance, noise.expand_as(mean))
    return total


def variance_for_deviation(
    decoder: Callable[[Tensor], Gaussian], x: Tensor, mean: Tensor, variance: Tensor, noise: Tensor
) -> Tensor:
    return decoder(mean + variance * noise).log_prob(x).sum(-1) - vae.kl_to_prior(mean, variance)


def without_divergence(
    decoder: Callable[[Tensor], Gaussian], x: Tensor, mean: Tensor, variance: Tensor, noise: Tensor
) -> Tensor:
    return decoder(vae.reparameterise(mean, variance, noise)).log_prob(x).sum(-1)


def squared_error(
    decoder: Callable[[Tensor], Gaussian], x: Tensor, mean: Tensor, variance: Tensor, noise: Tensor
) -> Tensor:
    code = vae.reparameterise(mean, variance, noise)
    return -((decoder(code).mean - x) ** 2).sum(-1) / 2 - vae.kl_to_prior(mean, variance)


def the_mean_is_the_bound(bound: Callable[..., Tensor], size: tuple[int, int], seed: int) -> float:
    model, x = drawn(*size, seed)
    mean, variance = tensors(2, (4, size[1]), seed=seed)
    variance = variance.exp()
    want = torch.cat(
        [model.elbo(x[k : k + 1], mean[k : k + 1], variance[k].diag()) for k in range(len(x))]
    )
    got = sampled_mean(bound, model, x, (mean, variance))
    scale = size_of(model, x, variance[0].diag()) + float((mean**2 + variance).sum()) / model.variance.min()
    return misfit(got, want, scale, 64 * 3 ** size[1])


@given(st.sampled_from([(1, 1), (3, 2), (2, 3)]), SEEDS)
def test_the_mean_over_the_noise_is_the_bound(size: tuple[int, int], seed: int) -> None:
    assert the_mean_is_the_bound(vae.elbo, size, seed) <= 1


@pytest.mark.parametrize("broken", [variance_for_deviation, without_divergence, squared_error])
def test_a_wrong_bound_of_one_noise_has_another_mean(broken: Callable[..., Tensor]) -> None:
    assert the_mean_is_the_bound(broken, (3, 2), 5) > 1e6


def test_gradients_through_the_noise_are_those_of_the_bound() -> None:
    model, x = drawn(3, 2, 7)
    mean, variance = tensors(1, (4, 2)).requires_grad_(), tensors(1, (4, 2), seed=1).exp().requires_grad_()
    through = torch.autograd.grad(sampled_mean(vae.elbo, model, x, (mean, variance)).sum(), (mean, variance))
    closed = sum(model.elbo(x[k : k + 1], mean[k : k + 1], variance[k].diag()).sum() for k in range(4))
    direct = torch.autograd.grad(closed, (mean, variance))
    scale = size_of(model, x, variance[0].diag().detach()) / float(variance.detach().min())
    for got, want in zip(through, direct, strict=True):
        assert misfit(got, want, scale, 64 * 9) <= 1


def test_a_code_has_the_moments_of_the_encoder() -> None:
    mean, variance = tensors(1, (4, 1)), tensors(1, (4, 1), seed=1).exp()
    codes = [(vae.reparameterise(mean, variance, z.expand_as(mean)), weight) for z, weight in nodes(1)]
    first = sum(weight * code for code, weight in codes)
    second = sum(weight * (code - mean) ** 2 for code, weight in codes)
    assert misfit(first, mean, mean.abs() + 3 * variance.sqrt(), 16) <= 1
    assert misfit(second, variance, mean**2 + 9 * variance, 16) <= 1


@given(SEEDS)
def test_the_divergence_from_the_prior_is_that_of_two_gaussians(seed: int) -> None:
    mean, variance = tensors(1, (4, 3), seed=seed), tensors(1, (4, 3), seed=seed + 1).exp()
    laws = torch.distributions.Normal(mean, variance.sqrt()), torch.distributions.Normal(0.0, 1.0)
    want = kl_divergence(*laws).sum(-1)
    size = (mean**2 + variance + variance.log().abs() + 1).sum(-1)
    assert misfit(vae.kl_to_prior(mean, variance), want, size, 32) <= 1
    wrong = kl_divergence(torch.distributions.Normal(torch.zeros_like(mean), 1.0), laws[0]).sum(-1)
    assert misfit(wrong, want, size, 32) > 1e6


# Finitely many codes.


def finite(codes: int, observations: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tables = [
        torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
        for shape in ((codes,), (codes, observations), (observations, codes))
    ]
    prior, decoder, encoder = (table / table.sum(-1, keepdim=True) for table in tables)
    return prior, decoder, encoder


FINITE = st.builds(finite, st.integers(2, 5), st.integers(2, 5), SEEDS)


def finite_misfit(bound: Callable[..., Tensor], tables: tuple[Tensor, Tensor, Tensor]) -> float:
    prior, decoder, _ = tables
    got = bound(*tables) + vae.gap(*tables)
    return misfit(got, vae.evidence(prior, decoder), got.abs() + 2, 8 * sum(decoder.shape))


def finite_prior_missing(prior: Tensor, decoder: Tensor, encoder: Tensor) -> Tensor:
    return torch.xlogy(encoder, decoder.T).sum(-1)


def finite_turned(prior: Tensor, decoder: Tensor, encoder: Tensor) -> Tensor:
    wrong = chains.divergence(prior.expand_as(encoder), encoder, dim=-1)
    return torch.xlogy(encoder, decoder.T).sum(-1) - wrong


def finite_entropy_missing(prior: Tensor, decoder: Tensor, encoder: Tensor) -> Tensor:
    return vae.bound(prior, decoder, encoder) - torch.special.entr(encoder).sum(-1)


@given(FINITE)
def test_evidence_is_bound_plus_gap_for_finitely_many_codes(tables: tuple[Tensor, Tensor, Tensor]) -> None:
    assert finite_misfit(vae.bound, tables) <= 1
    assert (vae.gap(*tables) >= 0).all()
    for broken in (finite_prior_missing, finite_turned, finite_entropy_missing):
        assert finite_misfit(broken, tables) > 1e3


@given(FINITE)
def test_one_latent_is_a_chain_of_one_step(tables: tuple[Tensor, Tensor, Tensor]) -> None:
    """A uniform law of the data makes the mean over them the mean over observations."""
    prior, decoder, encoder = tables
    data = torch.full((len(encoder),), 1 / len(encoder), dtype=torch.float64)
    chain, model = FiniteChain(data, (encoder,)), FiniteModel(prior, (decoder,))
    found = -chains.terms(chain, model).total
    assert misfit(found, vae.bound(*tables).mean(), found.abs() + 2, 8 * sum(decoder.shape)) <= 1
    mean_gap = vae.gap(*tables).mean()
    assert misfit(chains.gap(chain, model), mean_gap, found.abs() + 2, 8 * sum(decoder.shape)) <= 1


# A hierarchy of latents.


def affine(slope: Tensor, shift: Tensor, variance: Tensor) -> vae.Layer:
    return lambda z: Gaussian(slope * z + shift, variance.expand_as(z))


def layers(T: int, seed: int) -> tuple[chains.GaussianChain, chains.GaussianModel]:
    z = tensors(8, (T,), seed=seed)
    chain = chains.GaussianChain(z[0][0], z[1][0].exp(), z[2], z[3].exp())
    return chain, chains.GaussianModel(z[4][0], z[5][0].exp(), z[6] / 2, z[7], z[3].flip(0).exp())


def hierarchy_misfit(bound: Callable[..., Tensor], T: int, seed: int) -> float:
    """The mean over data and noises of one weight, and the diffusion bound of the same kernels."""
    chain, model = layers(T, seed)
    zero = torch.zeros((), dtype=torch.float64)
    encoders = [affine(a, zero, v) for a, v in zip(chain.slopes, chain.variances, strict=True)]
    decoders = [affine(*row) for row in zip(model.slopes, model.shifts, model.variances, strict=True)]
    rows = list(nodes(T + 1))
    weights = torch.tensor([weight for _, weight in rows], dtype=torch.float64)
    table = torch.stack([noise for noise, _ in rows])
    x = chain.mean + chain.variance.sqrt() * table[:, :1]
    noises = [table[:, t : t + 1] for t in range(1, T + 1)]
    prior = Gaussian(model.mean.expand_as(x), model.variance.expand_as(x))
    single = bound(x, encoders, decoders, prior, noises)
    want = -chains.gaussian_terms(chain, model).total
    return misfit((weights * single).sum(), want, (weights * single.abs()).sum() + want.abs() + 8, 64 * 3**T)


def without_encoders(
    x: Tensor,
    encoders: Sequence[vae.Layer],
    decoders: Sequence[vae.Layer],
    prior: Gaussian,
    noises: Sequence[Tensor],
) -> Tensor:
    """The joint law at encoded codes: the encoders' entropy is forgotten."""
    total, z = vae.hierarchical_elbo(x, encoders, decoders, prior, noises), x
    for encoder, noise in zip(encoders, noises, strict=True):
        law = encoder(z)
        z = law.sample(noise)
        total = total + law.log_prob(z).sum(-1)
    return total


def prior_on_the_first_layer(
    x: Tensor,
    encoders: Sequence[vae.Layer],
    decoders: Sequence[vae.Layer],
    prior: Gaussian,
    noises: Sequence[Tensor],
) -> Tensor:
    first = encoders[0](x).sample(noises[0])
    top = first
    for encoder, noise in zip(encoders[1:], noises[1:], strict=True):
        top = encoder(top).sample(noise)
    swapped = prior.log_prob(first) - prior.log_prob(top)
    return vae.hierarchical_elbo(x, encoders, decoders, prior, noises) + swapped.sum(-1)


@pytest.mark.parametrize("T", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_bound_of_a_hierarchy_is_the_diffusion_bound(T: int, seed: int) -> None:
    assert hierarchy_misfit(vae.hierarchical_elbo, T, seed) <= 1
    assert hierarchy_misfit(without_encoders, T, seed) > 1e6
    assert T == 1 or hierarchy_misfit(prior_on_the_first_layer, T, seed) > 1e6


def test_layers_may_differ_in_dimension() -> None:
    """Two layers: three numbers observed, then two latent ones, then one; the weight written out."""
    first, second = drawn(3, 2, 0)[0], drawn(2, 1, 1)[0]
    x = drawn(3, 2, 2)[1][:1]
    upwards = [
        lambda z: Gaussian(z[:, :2] / 2, torch.full_like(z[:, :2], 2.0)),
        lambda z: Gaussian(z[:, :1] / 2, torch.full_like(z[:, :1], 2.0)),
    ]
    one = torch.zeros(1, 1, dtype=torch.float64)
    noises = [noise.expand(1, -1) for noise in tensors(2, (1, 2))]
    noises[1] = noises[1][:, :1]
    got = vae.hierarchical_elbo(x, upwards, [first.decode, second.decode], Gaussian(one, one + 1), noises)
    law = upwards[0](x)
    z_1 = law.sample(noises[0])
    above = upwards[1](z_1)
    z_2 = above.sample(noises[1])
    want = first.decode(z_1).log_prob(x).sum() + second.decode(z_2).log_prob(z_1).sum()
    want = want - law.log_prob(z_1).sum() - above.log_prob(z_2).sum() - (z_2**2).sum() / 2
    assert misfit(got, want - math.log(2 * math.pi) / 2, got.abs() + 8, 64) <= 1


# Dtypes, devices, bad input.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_survive(dtype: torch.dtype) -> None:
    model, x = drawn(3, 2, 3, dtype)
    mean, cov = model.posterior(x)
    noise = torch.zeros_like(mean)
    variance = cov.diagonal().expand_as(mean)
    found = [
        model.evidence(x), model.elbo(x, mean, cov), model.gap(x, mean, cov), vae.kl_to_prior(mean, variance),
        vae.elbo(model.decode, x, mean, variance, noise),
    ]  # fmt: skip
    assert all(value.shape == (4,) and value.dtype == dtype for value in found)
    wide = LinearGaussian(model.weight.double(), model.shift.double(), model.variance.double())
    exactly = wide.evidence(x.double())
    assert misfit(model.evidence(x), exactly, exactly.abs() + 1, 4) <= 1


def test_images_are_summed_per_sample_on_any_device() -> None:
    x, mean, noise = tensors(3, (3, 1, 4, 4))
    variance = torch.full_like(mean, 0.5)

    def decoder(z: Tensor) -> Gaussian:
        return Gaussian(z, torch.ones_like(z))

    got = vae.elbo(decoder, x, mean, variance, noise)
    alone = torch.cat(
        [vae.elbo(decoder, *(v[k : k + 1] for v in (x, mean, variance, noise))) for k in range(3)]
    )
    assert torch.equal(got, alone)
    away = vae.elbo(decoder, *(v.to("meta") for v in (x, mean, variance, noise)))
    assert away.is_meta and away.shape == (3,)
    layer = [decoder]
    deep = vae.hierarchical_elbo(x.to("meta"), layer, layer, decoder(x.to("meta")), [noise.to("meta")])
    assert deep.is_meta and deep.shape == (3,)


MODEL, X = drawn(3, 2, 0)
MEAN, COV = MODEL.posterior(X)
PRIOR, DECODER, ENCODER = finite(3, 4, 0)
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "variance": (r"variance must be positive, got 0", lambda: vae.kl_to_prior(MEAN, 0 * MEAN.abs())),
    "NaN": (r"variance must be positive, got nan", lambda: vae.kl_to_prior(MEAN, MEAN * math.nan)),
    "shape": (r"variance must have the shape of mean", lambda: vae.kl_to_prior(MEAN, MEAN[:, :1])),
    "negative": (r"variance must be at least 0", lambda: vae.reparameterise(MEAN, -MEAN.abs(), MEAN)),
    "noise": (r"noise must have the shape", lambda: vae.reparameterise(MEAN, MEAN.abs(), MEAN[:1])),
    "weight": (r"weight must have shape \(D, d\)", lambda: LinearGaussian(MEAN, MODEL.shift, MODEL.shift)),
    "dtype": (
        r"weight must have the dtype",
        lambda: LinearGaussian(MODEL.weight.float(), MODEL.shift, MODEL.variance),
    ),
    "decoder's variance": (
        r"variance must be positive",
        lambda: LinearGaussian(MODEL.weight, MODEL.shift, MODEL.variance * 0),
    ),
    "x": (r"x must have shape \(B, 3\)", lambda: MODEL.evidence(X[:, :2])),
    "dtype of x": (r"x must have the dtype", lambda: MODEL.posterior(X.float())),
    "mean": (r"mean must have shape \(4, 2\)", lambda: MODEL.elbo(X, MEAN[:1], COV)),
    "cov": (r"cov must have shape \(2, 2\)", lambda: MODEL.gap(X, MEAN, COV[:1])),
    "dtype of cov": (r"cov must have the dtype", lambda: MODEL.gap(X, MEAN, COV.float())),
    "layers": (
        r"encoders, decoders and noises .* \(1, 0, 1\)",
        lambda: vae.hierarchical_elbo(X, [MODEL.decode], [], Gaussian(X, X.abs()), [X]),
    ),
    "no layer": (r"T >= 1", lambda: vae.hierarchical_elbo(X, [], [], Gaussian(X, X.abs()), [])),
    "table": (r"decoder must have shape \(Z, X\)", lambda: vae.evidence(PRIOR, DECODER.T)),
    "encoder": (r"encoder must have the shape", lambda: vae.bound(PRIOR, DECODER, ENCODER.T)),
    "table's dtype": (r"decoder must have the dtype", lambda: vae.evidence(PRIOR.float(), DECODER)),
}


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
