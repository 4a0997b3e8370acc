"""Several devices: where a batch and the state of training lie, so that they compute what one device computes.

The step stays one program over whole arrays, compiled by ``jax.jit``; XLA divides it among the devices and places the
sums over them. A batch lies along the mesh's axis "data", an equal part on each device. Sums over a batch, BatchNorm's
among them, and random numbers are those of one device, up to the order of sums.

>>> placement = Placement(devices=1)
>>> placement.batch(np.ones((4, 3))).shape
(4, 3)
"""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .errors import UserError
from .layers.base import PyTree

Sharding = Literal["replicated", "fsdp"]

SMALLEST = 2**12
"""Numbers in an array below which it is whole on every device: to gather it takes longer than to keep it."""


@dataclass(frozen=True)
class Placement:
    """Where arrays lie.

    devices: how many devices share a batch, from the first on; 0: all there are.
    sharding: of the state. replicated: whole on every device. fsdp: each large array of parameters, of the optimiser's
        state and of averages is spread along its largest axis that divides evenly (ZeRO-3, Rajbhandari et al. 2020;
        fully sharded data parallelism), and gathered where it is used.
    """

    devices: int = 1
    sharding: Sharding = "replicated"

    @cached_property
    def mesh(self) -> Mesh:
        """The devices along the axis "data". Raises UserError if there are fewer than ``devices``."""
        present = jax.devices()
        if self.devices > len(present):
            kind = present[0].platform
            raise UserError(f"--devices is {self.devices}; JAX sees {len(present)} of the kind {kind}")
        chosen = np.asarray(present[: self.devices or len(present)])
        return Mesh(chosen, ("data",), axis_types=(AxisType.Auto,))

    @property
    def is_one(self) -> bool:
        """Whether a single device computes everything: then nothing is placed."""
        return self.mesh.size == 1

    def batch(self, batch: PyTree) -> PyTree:
        """``batch``, the first axis of each of its arrays divided among the devices.

        Raises UserError if the number of examples is no multiple of the number of devices.
        """
        return batch if self.is_one else jax.device_put(batch, jax.tree.map(self._of_batch, batch))

    def state(self, state: PyTree) -> PyTree:
        """``state`` where it lies during training."""
        return state if self.is_one else jax.device_put(state, jax.tree.map(self._of_state, state))

    def constrain(self, state: PyTree) -> PyTree:
        """The same within a compiled function: what it returns lies where ``state`` puts it."""
        if self.is_one:
            return state
        return jax.lax.with_sharding_constraint(state, jax.tree.map(self._of_state, state))

    def _of_batch(self, leaf: Any) -> NamedSharding:
        if not np.ndim(leaf):
            return NamedSharding(self.mesh, PartitionSpec())
        if np.shape(leaf)[0] % self.mesh.size:
            raise UserError(
                f"a batch of {np.shape(leaf)[0]} examples cannot be divided among {self.mesh.size} devices; choose a "
                "--batch-size that is a multiple of --devices"
            )
        return NamedSharding(self.mesh, PartitionSpec("data"))

    def _of_state(self, leaf: Any) -> NamedSharding:
        count = self.mesh.size
        axes = [(size, axis) for axis, size in enumerate(np.shape(leaf)) if size % count == 0]
        if self.sharding == "replicated" or np.size(leaf) < SMALLEST or not axes:
            return NamedSharding(self.mesh, PartitionSpec())
        axis = max(axes)[1]
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, "data"))


def make_cpu_devices(count: int) -> None:
    """Divides the CPU into ``count`` devices of JAX, where it runs on one. To be called before JAX is used."""
    if count > 1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count)
