r"""Variational autoencoders: the bound of one latent, of a chain of latents, and a linear Gaussian one.

Laws over codes are Gaussian with independent elements (``refdiff.gaussian``) or tables over finitely many
codes. Noise is an argument; everything is in nats, per sample of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff import _check
from refdiff._elbo_terms import divergence
from refdiff.gaussian import LOG_2_PI, Gaussian, log_density, ratio_minus_1_minus_log

Layer = Callable[[Tensor], Gaussian]
"""A kernel: from a state of shape (B, *) the Gaussian law of the next one."""


def reparameterise(mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    r"""A code as a function of its moments and of standard normal noise.

    .. math:: z=m+\sqrt s\,\epsilon

    Args:
        mean: m, shape (B, *).
        variance: s, at least 0, broadcastable to the mean.
        noise: standard normal, shaped like the mean.

    Raises:
        ValueError: a variance that is negative or enlarges the mean, or noise of another shape or dtype.

    Reference: Kingma & Welling 2014, section 2.4 (formula ``vae.reparameterised``).
    """
    return Gaussian(mean, variance).sample(noise)


def kl_to_prior(mean: Tensor, variance: Tensor) -> Tensor:
    r"""The divergence of a Gaussian encoder from the standard normal prior.

    .. math:: \tfrac12\sum_j\left(s_j-1-\log s_j+m_j^2\right)

    Args:
        mean: m, shape (B, *).
        variance: s, positive, of the mean's shape.

    Returns:
        Shape (B,), in nats.

    Raises:
        ValueError: tensors of different shape, dtype or device, or a variance that is not positive.

    Reference: Kingma & Welling 2014, appendix B (formula ``vae.gaussian_divergence``).
    """
    _check.same(mean=mean, variance=variance)
    _positive("variance", variance)
    return _per_sample((ratio_minus_1_minus_log(variance, torch.ones_like(variance)) + mean**2) / 2)


def elbo(decoder: Layer, x: Tensor, mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    r"""The bound from one noise: log decoder at a sampled code, minus the exact divergence from the prior.

    .. math:: \log p(x\mid m+\sqrt s\,\epsilon)-\mathrm{KL}(\mathcal N(m,s)\,\|\,\mathcal N(0,1))

    Args:
        decoder: from codes of shape (B, *) the Gaussian law of the observation.
        x: observation, shape (B, *).
        mean, variance: moments of the encoder at x, of one shape (B, *); the variance is positive.
        noise: standard normal, shaped like the mean.

    Returns:
        Shape (B,), in nats; its mean over the noise is the bound.

    Raises:
        ValueError: tensors whose shapes or dtypes do not meet, or a variance that is not positive.

    Reference: Kingma & Welling 2014, eq. 7 and 10 (formula ``vae.split``, ``vae.sampled_elbo``).
    """
    divergence_from_prior = kl_to_prior(mean, variance)
    code = reparameterise(mean, variance, noise)
    return _per_sample(decoder(code).log_prob(x)) - divergence_from_prior


def hierarchical_elbo(
    x: Tensor, encoders: Sequence[Layer], decoders: Sequence[Layer], prior: Gaussian, noises: Sequence[Tensor]
) -> Tensor:
    r"""The bound of a chain of T latents from one noise a layer: the log weight of one encoded path.

    .. math:: \log p(z_T)+\sum_{t=1}^{T}\log\frac{p(z_{t-1}\mid z_t)}{q(z_t\mid z_{t-1})},\qquad z_0=x

    Args:
        x: observation, shape (B, *).
        encoders: T kernels, number t-1 is q(z_t | z_{t-1}).
        decoders: T kernels, number t-1 is p(z_{t-1} | z_t).
        prior: law of z_T, of its shape.
        noises: T standard normal tensors, number t-1 of the shape of z_t.

    Returns:
        Shape (B,), in nats; its mean over the noises is the bound.

    Raises:
        ValueError: no layer, or numbers of encoders, decoders and noises that differ.

    Reference: formula ``vae.hierarchical``, ``elbo.weight``.
    """
    if not len(encoders) == len(decoders) == len(noises) > 0:
        counts = len(encoders), len(decoders), len(noises)
        raise ValueError(f"encoders, decoders and noises must be T >= 1 each, got {counts}")
    z, weight = x, torch.zeros_like(x[(slice(None),) + (0,) * (x.dim() - 1)])
    for encoder, decoder, noise in zip(encoders, decoders, noises, strict=True):
        law = encoder(z)
        above = law.sample(noise)
        weight = weight + _per_sample(decoder(above).log_prob(z)) - _per_sample(law.log_prob(above))
        z = above
    return weight + _per_sample(prior.log_prob(z))


def evidence(prior: Tensor, decoder: Tensor) -> Tensor:
    r"""log p(x) of every observation, for finitely many codes.

    .. math:: \log p(x)=\log\sum_z p(z)\,p(x\mid z)

    Args:
        prior: p(z), shape (Z,).
        decoder: p(x | z), shape (Z, X).

    Returns:
        Shape (X,), in nats; -inf where no code leads.

    Raises:
        ValueError: tables that do not meet.

    Reference: formula ``vae.evidence``.
    """
    _tables(prior, decoder)
    return (prior @ decoder).log()


def bound(prior: Tensor, decoder: Tensor, encoder: Tensor) -> Tensor:
    r"""The bound of log p(x) for every observation, for finitely many codes: a sum over them, no sample.

    .. math:: \sum_z q(z\mid x)\log p(x\mid z)-\mathrm{KL}(q(z\mid x)\|p(z))

    Args:
        prior: p(z), shape (Z,).
        decoder: p(x | z), shape (Z, X).
        encoder: q(z | x), shape (X, Z).

    Returns:
        Shape (X,), in nats.

    Raises:
        ValueError: tables that do not meet.

    Reference: formula ``vae.split``.
    """
    _tables(prior, decoder, encoder)
    reconstruction = torch.xlogy(encoder, decoder.T).sum(-1)
    return reconstruction - divergence(encoder, prior.expand_as(encoder), dim=-1)


def gap(prior: Tensor, decoder: Tensor, encoder: Tensor) -> Tensor:
    r"""What the bound loses for every observation: the divergence of the encoder from the posterior.

    .. math:: \mathrm{KL}(q(z\mid x)\|p(z\mid x)),\qquad p(z\mid x)=\frac{p(z)\,p(x\mid z)}{p(x)}

    Args:
        prior: p(z), shape (Z,).
        decoder: p(x | z), shape (Z, X).
        encoder: q(z | x), shape (X, Z).

    Returns:
        Shape (X,), in nats; NaN where no code leads.

    Raises:
        ValueError: tables that do not meet.

    Reference: formula ``vae.variational``, ``vae.jensen``.
    """
    _tables(prior, decoder, encoder)
    posterior = (prior[:, None] * decoder / (prior @ decoder)).T
    return divergence(encoder, posterior, dim=-1)


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    r"""The linear Gaussian autoencoder: a standard normal code and an affine decoder.

    .. math:: z\sim\mathcal N(0,I),\qquad x\mid z\sim\mathcal N(Az+b,\mathrm{diag}(v))

    Args:
        weight: A, shape (D, d).
        shift: b, shape (D,).
        variance: v, positive, shape (D,).

    Raises:
        ValueError: tensors whose shapes, dtypes or devices do not meet, or a variance that is not positive.

    Reference: Tipping & Bishop 1999 (formula ``vae.gaussian_evidence``, ``vae.optimal_encoder_mean``,
    ``vae.optimal_encoder_variance``, ``vae.gaussian_elbo``, ``vae.gaussian_gap``,
    ``vae.gaussian_evidence_nd``, ``vae.gaussian_elbo_nd``, ``vae.gaussian_gap_nd``).
    """

    weight: Tensor
    shift: Tensor
    variance: Tensor

    def __post_init__(self) -> None:
        _check.same(shift=self.shift, variance=self.variance)
        _check.floating("weight", self.weight)
        if self.weight.dim() != 2 or self.shift.shape != self.weight.shape[:1]:
            shapes = tuple(self.weight.shape), tuple(self.shift.shape)
            raise ValueError(f"weight must have shape (D, d) and shift (D,), got {shapes}")
        if self.weight.dtype != self.shift.dtype or self.weight.device != self.shift.device:
            want, got = (self.shift.dtype, self.shift.device), (self.weight.dtype, self.weight.device)
            raise ValueError(f"weight must have the dtype and device of shift, {want}, got {got}")
        _positive("variance", self.variance)

    def decode(self, z: Tensor) -> Gaussian:
        """The law of x given codes of shape (B, d)."""
        mean = z @ self.weight.T + self.shift
        return Gaussian(mean, self.variance.expand_as(mean))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""The best encoder: mean, shape (B, d), and covariance, shape (d, d), of the code given x.

        .. math:: \Sigma=(I+A^\top V^{-1}A)^{-1},\qquad \mu=\Sigma A^\top V^{-1}(x-b)

        Raises:
            ValueError: observations of another shape, dtype or device.

        Reference: formula ``vae.optimal_encoder_mean``, ``vae.optimal_encoder_variance``.
        """
        self._check_data(x)
        root = self._root()
        return self._best(x, root).to(x.dtype), torch.cholesky_inverse(root).to(x.dtype)

    def evidence(self, x: Tensor) -> Tensor:
        r"""log p(x), shape (B,), in nats.

        .. math:: \log\mathcal N(x;b,AA^\top+V)

        Raises:
            ValueError: observations of another shape, dtype or device.

        Reference: formula ``vae.gaussian_evidence``, ``vae.gaussian_evidence_nd``.
        """
        self._check_data(x)
        A, b, v = self._wide()
        return log_density(x.double(), b, A @ A.T + v.diag()).to(x.dtype)

    def elbo(self, x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
        r"""The bound of log p(x) for the encoder N(mean, cov), shape (B,), in nats.

        .. math:: \mathbb E\log p(x\mid z)-\mathrm{KL}(\mathcal N(m,S)\,\|\,\mathcal N(0,I))

        Args:
            x: observation, shape (B, D).
            mean: m, shape (B, d).
            cov: S, positive definite, shape (d, d).

        Raises:
            ValueError: tensors whose shapes, dtypes or devices do not meet.

        Reference: formula ``vae.gaussian_elbo``, ``vae.gaussian_elbo_nd``.
        """
        self._check_data(x)
        self._check_encoder(x, mean, cov)
        A, b, v = self._wide()
        m = mean.double()
        root: Tensor = torch.linalg.cholesky(cov.double())
        missed = (x.double() - m @ A.T - b) ** 2 + ((A @ root) ** 2).sum(-1)
        decoded = -(missed / v + v.log() + LOG_2_PI).sum(-1) / 2
        return (decoded - ((m**2).sum(-1) + _spread(root)) / 2).to(x.dtype)

    def gap(self, x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
        r"""What the encoder N(mean, cov) loses: its divergence from the posterior, shape (B,), in nats.

        .. math:: \mathrm{KL}(\mathcal N(m,S)\,\|\,\mathcal N(\mu,\Sigma))

        Args:
            x: observation, shape (B, D).
            mean: m, shape (B, d).
            cov: S, positive definite, shape (d, d).

        Raises:
            ValueError: tensors whose shapes, dtypes or devices do not meet.

        Reference: formula ``vae.gaussian_gap``, ``vae.gaussian_gap_nd``.
        """
        self._check_data(x)
        self._check_encoder(x, mean, cov)
        root = self._root()
        # with R Rᵀ the precision the divergence is that of Rᵀ(z − μ) from a standard normal
        scaled = torch.linalg.cholesky(root.T @ cov.double() @ root)
        away = ((mean.double() - self._best(x, root)) @ root) ** 2
        return ((away.sum(-1) + _spread(scaled)) / 2).to(x.dtype)

    def _wide(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.weight.double(), self.shift.double(), self.variance.double()

    def _root(self) -> Tensor:
        """The Cholesky factor of the precision of the code given the observation."""
        A, _, v = self._wide()
        one = torch.eye(A.shape[1], dtype=A.dtype, device=A.device)
        root: Tensor = torch.linalg.cholesky(one + A.T @ (A / v[:, None]))
        return root

    def _best(self, x: Tensor, root: Tensor) -> Tensor:
        A, b, v = self._wide()
        best: Tensor = torch.cholesky_solve((((x.double() - b) / v) @ A).T, root).T
        return best

    def _check_data(self, x: Tensor) -> None:
        _check.floating("x", x)
        if x.dim() != 2 or x.shape[1:] != self.shift.shape:
            raise ValueError(f"x must have shape (B, {self.shift.shape[0]}), got {tuple(x.shape)}")
        if x.dtype != self.shift.dtype or x.device != self.shift.device:
            want, got = (self.shift.dtype, self.shift.device), (x.dtype, x.device)
            raise ValueError(f"x must have the dtype and device of shift, {want}, got {got}")

    def _check_encoder(self, x: Tensor, mean: Tensor, cov: Tensor) -> None:
        d = self.weight.shape[1]
        for name, value, shape in (("mean", mean, (x.shape[0], d)), ("cov", cov, (d, d))):
            if tuple(value.shape) != shape:
                raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
            if value.dtype != x.dtype or value.device != x.device:
                want, got = (x.dtype, x.device), (value.dtype, value.device)
                raise ValueError(f"{name} must have the dtype and device of x, {want}, got {got}")


def _spread(root: Tensor) -> Tensor:
    """tr S − d − log|S| for S with this Cholesky factor."""
    return (root**2).sum() - root.shape[0] - 2 * root.diagonal().log().sum()


def _per_sample(values: Tensor) -> Tensor:
    """Summed over everything but the batch."""
    return values.reshape(values.shape[0], -1).sum(-1)


def _positive(name: str, variance: Tensor) -> None:
    if _check.readable(variance) and not bool((variance > 0).all()):
        raise ValueError(f"{name} must be positive, got {variance.min().item()}")


def _tables(prior: Tensor, decoder: Tensor, encoder: Tensor | None = None) -> None:
    _check.floating("prior", prior)
    codes = prior.shape
    if prior.dim() != 1 or decoder.dim() != 2 or decoder.shape[:1] != codes:
        got = tuple(decoder.shape)
        raise ValueError(f"decoder must have shape (Z, X) with (Z,) = {tuple(codes)}, got {got}")
    if encoder is not None:
        _check.same(decoder=decoder.T, encoder=encoder)
    if decoder.dtype != prior.dtype:
        raise ValueError(f"decoder must have the dtype of prior, {prior.dtype}, got {decoder.dtype}")
