"""With the weights of diffusers' UNet ours is the same function, and the features of both are the same."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from nets_cases import BROKEN, ROUNDING, apart, arguments, randomised
from torch import Tensor, nn

from refdiff import nets

diffusers = pytest.importorskip("diffusers")
embeddings = pytest.importorskip("diffusers.models.embeddings")

# ours on the left; an attention of theirs has three linear maps for our qkv
NAMES = [
    (r"^time\.0\.", "time_embedding.linear_1."),
    (r"^time\.2\.", "time_embedding.linear_2."),
    (r"^label\.", "class_embedding."),
    (r"^down\.(\d)\.blocks\.", r"down_blocks.\1.resnets."),
    (r"^down\.(\d)\.attentions\.", r"down_blocks.\1.attentions."),
    (r"^down\.(\d)\.resample\.", r"down_blocks.\1.downsamplers.0.conv."),
    (r"^middle\.block1\.", "mid_block.resnets.0."),
    (r"^middle\.block2\.", "mid_block.resnets.1."),
    (r"^middle\.attention\.", "mid_block.attentions.0."),
    (r"^up\.(\d)\.blocks\.", r"up_blocks.\1.resnets."),
    (r"^up\.(\d)\.attentions\.", r"up_blocks.\1.attentions."),
    (r"^up\.(\d)\.resample\.", r"up_blocks.\1.upsamplers.0.conv."),
    (r"^norm_out\.", "conv_norm_out."),
    (r"(resnets\.\d)\.time\.", r"\1.time_emb_proj."),
    (r"(resnets\.\d)\.skip\.", r"\1.conv_shortcut."),
    (r"(attentions\.\d)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d)\.out\.", r"\1.to_out.0."),
]


def theirs(settings: dict[str, Any]) -> Any:
    """diffusers' network of the same description."""
    levels = range(len(settings["multipliers"]))
    kinds = ["Attn" if i in settings["attention"] else "" for i in levels]
    return diffusers.UNet2DModel(
        in_channels=settings["in_channels"],
        out_channels=settings["out_channels"],
        block_out_channels=[settings["base"] * multiplier for multiplier in settings["multipliers"]],
        layers_per_block=settings["blocks"],
        down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
        up_block_types=[f"{kind}UpBlock2D" for kind in reversed(kinds)],
        # channels of a head; None for one head at every level
        attention_head_dim=None if settings["heads"] == 1 else settings["base"] // settings["heads"],
        norm_num_groups=settings["groups"],
        attn_norm_num_groups=settings["groups"],
        freq_shift=1 if settings["spacing"] == "half_minus_one" else 0,
        flip_sin_to_cos=False,
        resnet_time_scale_shift="default" if settings["injection"] == "shift" else "scale_shift",
        num_class_embeds=settings["classes"] + 1 if settings["classes"] else None,
    ).double()


def copied(net: nn.Module, peer: Any, order: str = "qkv") -> None:
    """Our weights from theirs; every one of theirs is used."""
    source, state = dict(peer.state_dict()), {}
    for name, value in net.state_dict().items():
        other = name
        for pattern, replacement in NAMES:
            other = re.sub(pattern, replacement, other)
        if ".qkv." in other:
            state[name] = torch.cat([source.pop(other.replace("qkv", f"to_{of}")) for of in order])
        else:
            state[name] = source.pop(other)
        state[name] = state[name].reshape(value.shape)
    assert not source
    net.load_state_dict(state)


class Features(nn.Module):
    """Our features, in float64: theirs are in float32."""

    def __init__(self, dim: int, spacing: Any) -> None:
        super().__init__()
        self.dim, self.spacing = dim, spacing

    def forward(self, t: Tensor) -> Tensor:
        return nets.sinusoidal(t, self.dim, spacing=self.spacing, dtype=torch.float64)


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "attention": {"attention": [0, 1]},
    "scale-shift": {"injection": "scale_shift", "multipliers": (1, 2, 3)},
    "classes": {"classes": 3, "out_channels": 4, "blocks": 2},
    "one-level": {"base": 16, "multipliers": (1,), "attention": [0], "heads": 4, "spacing": "half"},
}


@pytest.mark.parametrize("id", SETTINGS)
def test_with_the_same_weights_it_is_the_network_of_diffusers(id: str) -> None:
    net: Any = nets.UNet(**{"in_channels": 2, "base": 8, "multipliers": (1, 2), "groups": 4} | SETTINGS[id])
    peer = randomised(theirs(net.double().settings))
    peer.time_proj = Features(net.embedding_dim, net.spacing)
    copied(net, peer)
    x, t = arguments("unet", batch=4)
    x = torch.cat([x, x.flip(2)], 2).repeat(1, 1, 1, 2) + torch.linspace(0, 1, 12, dtype=x.dtype)
    label = {"class_labels": torch.arange(4)} if net.classes else {}
    want = peer(x, t.double(), **label).sample
    assert apart(net(x, t, *label.values()), want) < ROUNDING
    # a network of another description is another function
    copied(net, peer, order="kqv")
    assert apart(net(x, t, *label.values()), want) > BROKEN
    copied(net, peer)
    for part in net.modules():
        if isinstance(part, nn.GroupNorm):
            part.eps = 1e-3
    assert apart(net(x, t, *label.values()), want) > ROUNDING


@pytest.mark.parametrize("spacing", ["half_minus_one", "half"])
@pytest.mark.parametrize("order", ["sin_cos", "cos_sin"])
def test_the_features_are_those_of_diffusers(spacing: Any, order: Any) -> None:
    t = torch.arange(0, 1001, 7)
    got = nets.sinusoidal(t, 64, spacing=spacing, order=order)
    want = embeddings.get_timestep_embedding(
        t, 64, flip_sin_to_cos=order == "cos_sin", downscale_freq_shift=float(spacing == "half_minus_one")
    )
    # their angles are products of float32 numbers, with an exponential whose argument is up to ln 10000
    tolerance = torch.finfo(torch.float32).eps * 1000 * 10
    assert float((got - want).abs().max()) < tolerance
    other = "cos_sin" if order == "sin_cos" else "sin_cos"
    assert float((nets.sinusoidal(t, 64, spacing=spacing, order=other) - want).abs().max()) > 1  # type: ignore[arg-type]
