"""Somebody's DDPM step as a target: right in ``MyStep``, without its root in ``NoRoot``."""

import torch

from refdiff import Dialect, Target

betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
alphas_cumprod = torch.cumprod(1 - betas, 0)


class MyStep(Target):
    name = "my step"
    dialect = Dialect(index_origin=0)

    def ddpm_step(self, x_t, t, eps, noise):
        shape = (-1, *[1] * (x_t.dim() - 1))
        beta, abar = betas[t].reshape(shape), alphas_cumprod[t].reshape(shape)
        mean = (x_t - beta / (1 - abar).sqrt() * eps) / (1 - beta).sqrt()
        return mean + self.std(beta, abar) * noise

    def std(self, beta, abar):
        return (beta * (1 - abar / (1 - beta)) / (1 - abar)).sqrt()


class NoRoot(MyStep):
    def std(self, beta, abar):
        return beta * (1 - abar / (1 - beta)) / (1 - abar)
