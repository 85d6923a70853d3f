"""Somebody's rectified flow as a target: right in ``MyFlow``, wrong in ``NotShifted`` and ``TowardsData``."""

import torch

from refdiff import Dialect, Target


class MyFlow(Target):
    name = "my flow"
    dialect = Dialect()

    def flow_path(self, x0, noise, t):
        t = self.column(t, x0)
        return (1 - t) * x0 + t * noise

    def flow_velocity(self, x0, noise, t):
        return noise - x0

    def flow_step(self, x, t, s, velocity):
        return x + self.column(s - t, x) * velocity

    def time_shift(self, t, shift):
        return shift * t / (1 + (shift - 1) * t)

    def flow_levels(self, n, shift):
        times = self.time_shift(torch.linspace(1, 0, n + 1, dtype=torch.float64), shift)
        return times, times[:-1]

    def flow_sample(self, velocity_fn, x, steps):
        times, labels = self.flow_levels(steps, 1.0)
        for i in range(steps):
            x = self.flow_step(x, times[i], times[i + 1], velocity_fn(x, labels[i]))
        return x

    def column(self, t, x):
        return torch.as_tensor(t, dtype=x.dtype).reshape(-1, *[1] * (x.dim() - 1))


class NotShifted(MyFlow):
    def flow_levels(self, n, shift):
        times, _ = super().flow_levels(n, shift)
        return times, torch.linspace(1, 0, n + 1, dtype=torch.float64)[:-1]


class TowardsData(MyFlow):
    def flow_velocity(self, x0, noise, t):
        return x0 - noise
