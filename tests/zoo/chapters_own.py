"""Further mutants of energies, scores, likelihoods and guidance: realistic mistakes that are on no list."""

from typing import Any

from refdiff.oracle.target import PORTS
from tests.zoo.base import Registry, dialect
from tests.zoo.chapters import alone

MORE_CHAPTERS = Registry()


# what a port is made from, or is judged against
NEEDS = {
    "energy": ("energy_score",),
    "energy_score": ("energy",),
    "langevin_sample": ("langevin_step",),
    "annealed_langevin_step": ("langevin_step",),
    "annealed_langevin": ("langevin_step", "annealed_langevin_step"),
    "cfg_step": ("cfg",),
    "vlb": ("prior_kl", "decoder_log_likelihood"),
}


def own(
    id: str, family: str, topic: type, *also: str, spoken: dict[str, Any] | None = None, **methods: Any
) -> None:
    """A mutant of a topic, some of its ports being wrong; the ports that do not matter are left out."""
    changes = {"dialect": dialect(**spoken)} if spoken else {}
    wrong = [port for port, method in methods.items() if method is not None]
    kept = {*wrong, *(name for port in wrong for name in NEEDS.get(port, ()))}
    hidden = {port: None for port in PORTS if wrong and port in dir(topic) and port not in kept}
    cls = type(id.title().replace("-", ""), (alone(topic),), hidden | methods | changes)
    MORE_CHAPTERS(f"own-{id}", family, *also)(cls)


def rows(value, x):
    return value.reshape(-1, *[1] * (x.dim() - 1))
