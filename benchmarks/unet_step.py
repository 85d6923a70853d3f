"""A step of the UNet against the UNets of diffusers and denoising-diffusion-pytorch, in one run; one thread.

Training is forward, backward and Adam; inference is one forward pass without gradients, as a sampler asks for
it. The UNet of diffusers is built to be the same network, weight for weight; that of
denoising-diffusion-pytorch is another, of which the width is chosen for the same number of parameters. It is
left out where the package is not installed. Memory is the rise of the resident set of a fresh process.

python benchmarks/unet_step.py
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from diffusers import UNet2DModel
from timing import interleaved, ratio_line
from torch import Tensor, nn

from refdiff.nets import UNet

SHAPE = (8, 3, 32, 32)
BASE, MULTIPLIERS, GROUPS, ATTENTION = 64, (1, 2, 2), 32, 1
LUCIDRAINS_BASE = 72
# 1, and what two runs of the same network differ by
TIME_BOUND, MEMORY_BOUND, PARAMETERS_BOUND = 1.03, 1.0, 0.05
UNUSED = {
    "torchvision": [],
    "ema_pytorch": [],
    "accelerate": [],
    "pytorch_fid": ["pytorch_fid.fid_score", "pytorch_fid.inception"],
}
"""Packages that denoising-diffusion-pytorch imports next to its UNet, which uses none of them."""


def ours() -> nn.Module:
    return UNet(in_channels=3, base=BASE, multipliers=MULTIPLIERS, groups=GROUPS, attention=[ATTENTION])


def ours_last() -> nn.Module:
    """The same network with the channels last in memory."""
    net = ours()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def of_diffusers() -> nn.Module:
    kinds = ["Attn" if i == ATTENTION else "" for i in range(len(MULTIPLIERS))]
    net: nn.Module = UNet2DModel(
        sample_size=SHAPE[-1],
        block_out_channels=[BASE * multiplier for multiplier in MULTIPLIERS],
        down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
        up_block_types=[f"{kind}UpBlock2D" for kind in reversed(kinds)],
        attention_head_dim=None,
        norm_num_groups=GROUPS,
    )
    return net


def of_lucidrains() -> nn.Module:
    for package, modules in UNUSED.items():
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            sys.modules |= {name: Unused(name) for name in (package, *modules)}
    module: Any = importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")

    full = tuple(i == ATTENTION for i in range(len(MULTIPLIERS)))
    net: nn.Module = module.Unet(LUCIDRAINS_BASE, dim_mults=MULTIPLIERS, full_attn=full)
    return net


class Unused(ModuleType):
    """A module that is not there, and of which only names are asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


NETS: Mapping[str, Callable[[], nn.Module]] = {
    "refdiff": ours,
    "refdiff, channels last": ours_last,
    "diffusers": of_diffusers,
    "denoising-diffusion-pytorch": of_lucidrains,
}


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    """x, t and a target as fixed float32 tensors."""
    grid = torch.linspace(-2, 2, torch.Size(SHAPE).numel(), dtype=torch.float32).reshape(SHAPE)
    return grid, torch.linspace(1, 1000, SHAPE[0]).round(), torch.sin(7 * grid)


def output(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    y: Any = net(x, t)
    tensor: Tensor = y if isinstance(y, Tensor) else y.sample
    return tensor


def training(net: nn.Module) -> Callable[[], object]:
    x, t, target = tensors()
    adam = torch.optim.Adam(net.parameters(), lr=1e-4)

    def run() -> None:
        adam.zero_grad()
        loss = (output(net, x, t) - target).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()

    return run


def inference(net: nn.Module) -> Callable[[], object]:
    x, t, _ = tensors()

    def run() -> Tensor:
        with torch.no_grad():
            return output(net, x, t)

    return run


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def status(field: str) -> float:
    """A figure about the memory of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def memory(name: str, kind: str) -> float:
    """The peak of three steps above what was there before them, network included, in a fresh process."""
    command = [sys.executable, __file__, name, kind]
    # a tensor that is freed goes back at once, so that the figure does not hang on gaps in the heap
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(run.stdout)


def rise(name: str, kind: str) -> float:
    net = NETS[name]()
    del net
    before = status("VmRSS")
    run = {"training": training, "inference": inference}[kind](NETS[name]())
    for _ in range(3):
        run()
    return status("VmHWM") - before


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        print(rise(sys.argv[1], sys.argv[2]))
        return
    names = [name for name in NETS if "-" not in name or importlib.util.find_spec(name.replace("-", "_"))]
    nets = {name: NETS[name]() for name in names}
    peers = names[2:]
    for peer in peers:
        apart = abs(parameters(nets[peer]) / parameters(nets["refdiff"]) - 1)
        print(ratio_line(f"parameters of {peer}: apart by", apart, PARAMETERS_BOUND))
    for kind, make in (("training", training), ("inference", inference)):
        # torch's group normalisation is slow backwards with the channels last
        shown = names if kind == "inference" else [names[0], *peers]
        median = interleaved({name: make(nets[name]) for name in shown}, repeats=15)
        peaks = {name: memory(name, kind) for name in shown}
        for name in shown[: -len(peers)]:
            for peer in peers:
                print(ratio_line(f"{kind}: {name} / {peer}", median[name] / median[peer], TIME_BOUND))
                peak = peaks[name] / peaks[peer]
                print(ratio_line(f"{kind}, peak memory: {name} / {peer}", peak, MEMORY_BOUND))
        print(f"{kind}: {median['refdiff']:.3g} s and {peaks['refdiff']:.0f} MiB for a batch of {SHAPE}")


if __name__ == "__main__":
    main()
