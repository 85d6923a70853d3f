"""The package's own kernels, samplers, likelihoods, flows and consistency models, as targets."""

from __future__ import annotations

from typing import Any

import torch

from refdiff import consistency, flow, ode, process, sde, vdm
from refdiff.oracle import Dialect, Target

TIME_REFERENCE: list[type[Target]] = []


def reference(cls: type[Target]) -> type[Target]:
    cls.name = cls.__name__
    TIME_REFERENCE.append(cls)
    return cls


class Equations(Target):
    """The kernel and the equations of a process."""

    process: process.Process

    def marginal(self, t):
        return self.process.scale(t), self.process.std(t)

    def drift(self, x, t):
        return sde.forward_drift(self.process, x, t)

    def diffusion(self, t):
        return self.process.diffusion(t)

    def reverse_drift(self, x, t, score):
        return sde.reverse_drift(self.process, x, t, score)

    def pf_ode_drift(self, x, t, score):
        return ode.drift(self.process, x, t, score)

    def score_loss(self, score_fn, x0, t, noise):
        return sde.dsm_loss(self.process, score_fn, x0, t, noise)

    def corrector_step_size(self, score, noise, snr):
        return sde.corrector_step_size(score, noise, snr, norm="sample")

    def corrector_step(self, x, score, noise, snr):
        return sde.corrector_step(x, score, noise, self.corrector_step_size(score, noise, snr))


def walked(target: Any, score_fn: Any, x: Any, times: Any, noises: Any, **how: Any) -> Any:
    predictor = target.dialect.predictor
    return sde.predictor_corrector(target.process, score_fn, x, times, noises, predictor=predictor, **how)


@reference
class VpEuler(Equations):
    process = process.VP()
    dialect = Dialect(process="vp", loss_reduction="sum")

    def sde_step(self, x, t, s, score, noise):
        return sde.euler_maruyama_step(self.process, x, t, s, score, noise)

    def sde_sample(self, score_fn, x, times, noises):
        return walked(self, score_fn, x, times, noises)

    def ode_log_likelihood(self, score_fn, x):
        return ode.log_likelihood(self.process, score_fn, x, start=1e-5, rtol=1e-4, atol=1e-4)


@reference
class SubVpEuler(Equations):
    process = process.SubVP()
    dialect = Dialect(process="subvp", loss_reduction="sum")

    def sde_step(self, x, t, s, score, noise):
        return sde.euler_maruyama_step(self.process, x, t, s, score, noise)


@reference
class VpReverseDiffusion(Equations):
    process = process.VP(0.2, 9.0)
    dialect = Dialect(process=process, predictor="reverse_diffusion", last_step="mean", loss_reduction="sum")

    def sde_step(self, x, t, s, score, noise):
        return sde.reverse_diffusion_step(self.process, x, t, s, score, noise)

    def sde_sample(self, score_fn, x, times, noises):
        return walked(self, score_fn, x, times, noises, last_noise=False)


@reference
class VpHeun(Equations):
    process = process.VP()
    dialect = Dialect(process="vp", predictor=None, loss_reduction="sum")

    def sde_sample(self, score_fn, x, times, noises):
        return sde.predictor_corrector(self.process, score_fn, x, times, noises, predictor="heun")


@reference
class VpAncestral(Equations):
    process = process.VP()
    dialect = Dialect(process="vp", predictor="ancestral", loss_reduction="sum")

    def sde_step(self, x, t, s, score, noise):
        return sde.ancestral_step(self.process, x, t, s, score, noise)

    def sde_sample(self, score_fn, x, times, noises):
        return walked(self, score_fn, x, times, noises)


@reference
class VeCorrected(Equations):
    process = process.VE()
    dialect = Dialect(
        process="ve", predictor="ancestral", corrector="after", loss_reduction="sum", grid="N-1"
    )

    def sde_step(self, x, t, s, score, noise):
        return sde.ancestral_step(self.process, x, t, s, score, noise)

    def predictor_corrector(self, score_fn, x, times, snr, noises, corrector_noises):
        how = {"snr": snr, "corrector_steps": 1, "first": "predictor", "norm": "sample"}
        return walked(self, score_fn, x, times, noises, corrector_noises=corrector_noises, **how)

    def discretize(self, n):
        return sde.ve_sigmas(self.process, n)


@reference
class EdmDenoiser(Equations):
    process = process.EDM()
    dialect = Dialect(process="edm", loss_reduction="sum")


@reference
class Betas(Target):
    dialect = Dialect(process="vp", step_beta="rate", grid="N-1")

    def discretize(self, n):
        return sde.vp_betas(process.VP(), n)


@reference
class WideBetas(Target):
    dialect = Dialect(process="vp", step_beta="rate", grid="wide")

    def discretize(self, n):
        return sde.vp_betas(process.VP(), n, grid="N-1")


class Paths(Target):
    path: flow.Path

    def flow_path(self, x0, noise, t):
        return flow.interpolate(self.path, x0, t, noise)

    def flow_velocity(self, x0, noise, t):
        return flow.conditional_velocity(self.path, x0, t, noise)

    def flow_loss(self, model, x0, t, noise):
        return flow.loss(self.path, model, x0, t, noise, reduction="mean")

    def flow_step(self, x, t, s, velocity):
        return flow.euler_step(x, t, s, velocity)


@reference
class Rectified(Paths):
    path = flow.Rectified()
    dialect = Dialect(process="straight", reverse_time="tau")

    def flow_sde_drift(self, velocity, score, t):
        return flow.sde_drift(velocity, score, t.sqrt(), backward=True)

    def time_shift(self, t, shift):
        return flow.shift_time(t, shift)

    def flow_levels(self, n, shift):
        times = flow.times(n, shift)
        return times, times[:-1]

    def flow_sample(self, velocity_fn, x, steps):
        *_, (_, last) = flow.sample(velocity_fn, x, flow.times(steps))
        return last

    def flow_coupling(self, x0, noise):
        return x0, noise[flow.assignment(x0, noise)]


@reference
class ToData(Paths):
    path = flow.Reversed(flow.Rectified())
    dialect = Dialect(process="straight", time_direction="data")


@reference
class Transport(Paths):
    path = flow.Transport(0.05)
    dialect = Dialect(process=flow.Transport(0.05))


@reference
class Circle(Paths):
    path = flow.Trigonometric()
    dialect = Dialect(process="cosine")


@reference
class OfDiffusion(Paths):
    """The variance-preserving process as a flow."""

    path = flow.Diffusion(process.VP())
    dialect = Dialect(process="vp")


@reference
class Consistency(Target):
    dialect = Dialect()

    def consistency_function(self, x, sigma, output):
        return consistency.function(lambda *_: output, x, sigma)

    def consistency_sample(self, function, x, sigmas):
        noises = [torch.randn_like(x) for _ in sigmas[1:]]
        return consistency.multistep(function, x, sigmas, noises)


GAMMA = vdm.LinearGamma(-13.3, 5.0)


def in_time(model: Any) -> Any:
    """A model that is asked with gamma, as one that is asked with the time."""
    return lambda z, gamma: model(z, (gamma + 13.3) / 18.3)


@reference
class Variational(Target):
    dialect = Dialect()

    def vdm_gamma(self, t):
        return GAMMA(t)

    def vdm_loss(self, model, x0, t, noise):
        return vdm.loss_continuous(in_time(model), GAMMA, x0, t, noise)


@reference
class Learned(Target):
    dialect = Dialect(gamma="learned", gamma_ends=(-6.0, 6.0))

    def vdm_gamma(self, t):
        noises = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
        return vdm.MonotoneGamma(noises, -6.0, 6.0)(t)
