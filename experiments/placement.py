"""Where Ray may place a trial: on any node but those that were found unfit."""

from collections.abc import Callable
from typing import Any

from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.util.placement_group import PlacementGroup, placement_group

_NODE_LABEL = "ray.io/node-id"


class PlacedElsewhere(PlacementGroupFactory):  # type: ignore[misc]
    """Resources of a trial whose placement groups keep away from some nodes: from those named when the group is made.

    To Tune all of them are the same request, however the nodes change, so that trials take over each other's processes
    and a trial that is begun again keeps away from what was found out meanwhile.

    Parameters
    ----------
    resources : PlacementGroupFactory
    unfit : callable
        Ids of the nodes to keep away from.
    """

    def __init__(self, resources: PlacementGroupFactory, unfit: Callable[[], list[str]]) -> None:
        super().__init__(_bundles(resources), strategy=resources.strategy)
        self._unfit = unfit

    def to_placement_group(self) -> PlacementGroup:
        """Reserve the resources."""
        unfit = self._unfit()
        if not unfit:
            return super().to_placement_group()
        selector = {_NODE_LABEL: f"!in({','.join(unfit)})"}
        return placement_group(self.bundles, self.strategy, bundle_label_selector=[selector] * len(self.bundles))

    def __reduce__(self) -> tuple[Any, ...]:
        """As plain resources, for the snapshots that Tune takes: they are never read back."""
        return PlacementGroupFactory, (_bundles(self), self.strategy)


def _bundles(resources: PlacementGroupFactory) -> list[dict[str, float]]:
    """As they were given; an empty first one is kept apart."""
    first: list[dict[str, float]] = [{}] if resources.head_bundle_is_empty else []
    return [*first, *resources.bundles]
