"""Which anchors and proposals of a tile are learnt from: a random choice that follows from the tile alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from satdet._seeds import derived_seed


class TileSampler:
    """Draws positive and negative boxes of each tile, as torchvision's ``BalancedPositiveNegativeSampler`` does.

    A tile whose target has a ``seed`` draws from a stream of its own. What is learnt from it then depends neither on
    the other tiles of the pass, nor on the process that trains it: a batch may be divided between passes or workers.

    Parameters
    ----------
    count : int
        Boxes drawn of a tile, where it has so many.
    positive_share : float
        Of them at most this share is positive.
    purpose : int
        Keeps the streams of several samplers apart.
    """

    def __init__(self, count: int, positive_share: float, purpose: int) -> None:
        self._count = count
        self._most_positive = int(count * positive_share)
        self._purpose = purpose

    def __call__(
        self, labels: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The chosen positive and negative boxes of each tile.

        Parameters
        ----------
        labels : sequence of Tensor
            One a tile, (n,): at least 1 for a positive box, 0 for a negative one, -1 for one that is left out.
        targets : sequence of dict
            One a tile; ``seed`` () int64 on the CPU, if there is one, seeds its draw, else torch's global generator
            draws.

        Returns
        -------
        tuple of two lists of Tensor
            One mask (n,) bool a tile.
        """
        pairs = [self._draw(own, target.get("seed")) for own, target in zip(labels, targets, strict=True)]
        return [positive for positive, _ in pairs], [negative for _, negative in pairs]

    def _draw(self, labels: Tensor, seed: Tensor | None) -> tuple[Tensor, Tensor]:
        generator = None
        if seed is not None:
            generator = torch.Generator().manual_seed(derived_seed(int(seed), self._purpose))
        positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
        some = _some(positive, self._most_positive, generator)
        others = _some(negative, self._count - len(some), generator)
        return _mask(labels, some), _mask(labels, others)


def _some(index: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """At most `count` of `index`; drawn on the CPU, so that the device makes no difference."""
    return index[torch.randperm(len(index), generator=generator)[:count].to(index.device)]


def _mask(labels: Tensor, index: Tensor) -> Tensor:
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[index] = True
    return mask
