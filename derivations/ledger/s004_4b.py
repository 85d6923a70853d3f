"""S004, chapter 4 from §4.3 on: the score that DDPM learns, and the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from derivations.kit import Enumeration, Step
from derivations.ledger.checks import (
    Convention,
    Counterexample,
    Erratum,
    Exact,
    NotCheckable,
    Proved,
    Steps,
)
from derivations.ledger.row import Row


def network(
    multipliers: tuple[int, ...], attention: int, concatenate: bool, base: int = 128
) -> tuple[int, int, int]:
    """Parameters, group normalisations and residual blocks of the network of Ho et al., counted by hand.

    Skips that are added go through a 1×1 convolution where their channels are not those of the decoder.
    """
    width, norms, blocks, attended = 4 * base, 0, 0, 0
    total = base * width + width + width * width + width

    def conv(into: int, out: int, size: int = 3) -> int:
        return into * out * size**2 + out

    def residual(into: int, out: int) -> int:
        nonlocal blocks
        blocks += 1
        shortcut = conv(into, out, 1) if into != out else 0
        return 2 * into + conv(into, out) + conv(width, out, 1) + 2 * out + conv(out, out) + shortcut

    def attend(channels: int) -> int:
        nonlocal attended
        attended += 1
        return 2 * channels + 4 * conv(channels, channels, 1)

    total += conv(3, base)
    here, skips = base, [base]
    for level, multiplier in enumerate(multipliers):
        for _ in range(2):
            total += residual(here, base * multiplier)
            here = base * multiplier
            total += attend(here) if level == attention else 0
            skips.append(here)
        if level + 1 < len(multipliers):
            total += conv(here, here)
            skips.append(here)
    total += residual(here, here) + attend(here) + residual(here, here)
    for level in reversed(range(len(multipliers))):
        for _ in range(3):
            skip = skips.pop()
            total += 0 if concatenate or skip == here else conv(skip, here, 1)
            total += residual(here + skip if concatenate else here, base * multipliers[level])
            here = base * multipliers[level]
            total += attend(here) if level == attention else 0
        total += conv(here, here) if level else 0
    norms = 2 * blocks + attended + 1
    return total + 2 * here + conv(here, 3), norms, blocks


_CIFAR, _LSUN = ((1, 2, 2, 2), 1), ((1, 1, 2, 2, 4, 4), 4)


def _sizes() -> list[Step]:
    """The counts of Ho et al., appendix B, to the digits that they state."""

    def cases() -> Iterator[tuple[str, Fraction, Fraction]]:
        cifar, large = network(*_CIFAR, True)[0], network(*_LSUN, True)[0]
        yield "35.7 million for CIFAR-10", Fraction(round(cifar, -5)), Fraction(35_700_000)
        yield "114 million for 256 × 256", Fraction(round(large, -6)), Fraction(114_000_000)

    return [Enumeration("parameters of the networks of Ho et al., skips concatenated, time in blocks", cases)]


def _skips() -> Mapping[str, tuple[Exact, Exact]]:
    return {
        "parameters of the CIFAR-10 network, stated as 35.7 million": (
            network(*_CIFAR, False)[0],
            network(*_CIFAR, True)[0],
        )
    }


def _time_enters() -> Mapping[str, tuple[Exact, Exact]]:
    _, norms, blocks = network(*_CIFAR, True)
    return {"places where the time enters the CIFAR-10 network": (norms, blocks)}


def _around(sides: tuple[int, ...], halvings: int) -> list[Step]:
    """Sides halved, upwards to a whole number, and doubled again, at every size where a skip arrives."""

    def cases() -> Iterator[tuple[str, Fraction, Fraction]]:
        for side in sides:
            down = [side]
            for _ in range(halvings):
                down.append(-(-down[-1] // 2))
            for level in range(halvings):
                yield f"side {side}, level {level}", Fraction(2 * down[level + 1]), Fraction(down[level])

    return [Enumeration(f"sizes meet again after {halvings} halvings", cases)]


ROWS: tuple[Row, ...] = (
    Row(
        "S004:§4.3/1",
        "claim",
        "With a diagonal covariance one pixel may be taken at a time.",
        Proved("gaussian.log_density_nd", "gaussian.log_density"),
        latex=r"\log q(x_t\mid x_0)=\sum_i\log q(x_t^i\mid x_0^i)",
    ),
    Row(
        "S004:4.11",
        "equation",
        "The density of x_t given x_0, its logarithm, and its gradient: minus the noise over √(1−ᾱ_t).",
        Proved("gaussian.log_density", "data.point_mass_score", "parameterization.score_from_eps"),
        latex=r"\nabla_{x_t}\log q(x_t\mid x_0)=-\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{1-\bar\alpha_t}=-\frac"
        r"{\epsilon}{\sqrt{1-\bar\alpha_t}}",
    ),
    Row(
        "S004:§4.3/2",
        "claim",
        "The factor −1/√(1−ᾱ_t) between noise and score depends on t: ε_θ fits −√(1−ᾱ_t) times the score, "
        "and the loss of the noise is 1−ᾱ_t times that of the score.",
        Erratum("score_matching.eps_loss", "unweighted", also=("data.eps",)),
        latex=r"\|\epsilon-\epsilon_\theta\|^2=(1-\bar\alpha_t)\left\|s_\theta-\nabla\log q(x_t\mid x_0)"
        r"\right\|^2,\qquad s_\theta=-\frac{\epsilon_\theta}{\sqrt{1-\bar\alpha_t}}",
        printed=r"-\frac1{\sqrt{1-\bar\alpha_t}}\ \text{is constant, so}\ \epsilon_\theta\ \text{fits}\ "
        r"\nabla_{x_t}\log q(x_t\mid x_0)",
        severity="wording",
        origin="author",
        effect="A score taken from ε_θ without the factor is 100 times too small at t = 1 of the linear "
        "schedule, and has the wrong sign; a loss of the score without 1−ᾱ_t gives t = 1 the weight "
        "10000. At one t alone, as the end of the sentence has it, the minimisers correspond.",
    ),
    Row(
        "S004:§4.3/3",
        "claim",
        "At one t the objective is denoising score matching of a model of the score of x_t.",
        Proved("score_matching.eps_loss", "score_matching.denoising", "score_matching.marginal_score"),
        latex=r"\epsilon_\theta^*(x_t,t)=\mathbb E[\epsilon\mid x_t]=-\sqrt{1-\bar\alpha_t}\,\nabla\log"
        r"q(x_t)",
        conditions="up to the factor 2(1−ᾱ_t). The score that is learned is that of q(x_t), a mean of those "
        "given x_0; a free network need not be the gradient of any log p_θ",
    ),
    Row(
        "S004:§4.3/4",
        "claim",
        "DDPM and SMLD train alike, by denoising score matching at many noise levels; noising and sampling "
        "differ.",
        Proved("smld.ddpm_loss", "smld.step", "ddpm.step"),
        latex=r"\tfrac12\|\epsilon-\epsilon_\theta\|^2=\sigma^2\cdot\tfrac12\left\|s_\theta+\tfrac{\epsilon}"
        r"{\sigma}\right\|^2,\qquad\sigma^2=\frac{1-\bar\alpha_t}{\bar\alpha_t}",
    ),
    Row(
        "S004:§4.3/5",
        "claim",
        "DDPM works far better than SMLD because it defines its reverse process more precisely.",
        NotCheckable("an empirical claim, and a reason for it"),
    ),
    Row(
        "S004:§4.4/1",
        "claim",
        "Input and target have one size, so a UNet is used, which comes from segmentation.",
        NotCheckable("a choice of architecture, and history"),
    ),
    Row(
        "S004:fig4.3",
        "figure",
        "The UNet: sizes are halved on the way down and doubled on the way up, and end as they began.",
        Steps(lambda: _around((256, 64, 32), 5), lambda: _around((256, 250), 5)),
        latex=r"256\to128\to64\to32\to16\to8\to16\to32\to64\to128\to256",
        notation="the picture is not part of the scan; what the text says of it is judged, with the five "
        "halvings of the network of Ho et al. for 256 × 256",
    ),
    Row(
        "S004:§4.4/2",
        "claim",
        "The skips are concatenated to the features of the decoder, not added to them.",
        Counterexample(
            _skips, "the number of parameters that is published is that of concatenation", true=_sizes
        ),
        latex=r"h\leftarrow\mathrm{Block}\left([h,\,h_{\mathrm{skip}}],\,t\right)",
        printed=r"h\leftarrow\mathrm{Block}\left(h+h_{\mathrm{skip}},\,t\right)",
        severity="number",
        origin="author",
        effect="Built with sums the network for CIFAR-10 has 29.1 million parameters and not 35.7 and cannot "
        "load published weights; where a skip of 128 channels meets 256 it needs a 1 × 1 convolution that "
        "the text does not have.",
        conditions="in DDPM and in the first UNet; a UNet with sums is a network too, but not that of DDPM",
    ),
    Row(
        "S004:§4.4/3",
        "claim",
        "Skips ease vanishing gradients, keep what the input holds, and are the key to predicting noise.",
        NotCheckable("an empirical claim about training networks"),
    ),
    Row(
        "S004:§4.4/4",
        "claim",
        "The network can be built for other resolutions: sizes meet again on the way up.",
        Steps(lambda: _around((32, 96, 512, 1024), 5), lambda: _around((100,), 5)),
        conditions="sides that the halvings divide: with five, multiples of 32. A side of 100 comes back as "
        "13 → 26 where 25 waits, without padding or cutting",
    ),
    Row(
        "S004:§4.4/5",
        "claim",
        "DDPM adds layers of self-attention for better results.",
        NotCheckable("a choice of architecture and an empirical claim"),
    ),
    Row(
        "S004:§4.4/6",
        "claim",
        "The time, as a positional encoding, enters once in each residual block, between its "
        "convolutions; not every group normalisation is told it.",
        Counterexample(
            _time_enters,
            "one layer for the time in each residual block gives the published number",
            true=_sizes,
        ),
        latex=r"h\leftarrow\mathrm{Conv}\left(\mathrm{silu}(\mathrm{GN}(h))\right)+W\,\mathrm{silu}(e_t)",
        printed=r"e_t\ \text{enters all group normalisations}",
        severity="wording",
        origin="author",
        effect="In the network for CIFAR-10 the time enters 22 blocks, while there are 51 group "
        "normalisations; those of attention, of the output and the first of each block do not see it.",
    ),
    Row(
        "S004:§4.4/7",
        "claim",
        "Channels grow on the way down and fall on the way up; the decoder mirrors the encoder.",
        Convention(
            "multiples of a base width for each size: 1, 2, 2, 2 for CIFAR-10 and 1, 1, 2, 2, 4, 4 for 256 × "
            "256, so not at every halving; the decoder has the encoder's sizes and widths, with three blocks "
            "for each size where the encoder has two"
        ),
        latex=r"c_i=128\,m_i,\qquad m=(1,2,2,2)\ \text{or}\ (1,1,2,2,4,4)",
    ),
)
