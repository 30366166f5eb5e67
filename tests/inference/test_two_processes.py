"""Parameters whose parts lie with two processes: this file is also what each of them runs."""

import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.inference.fake import picture
from tests.inference.test_predictor import Net, predictor_of


def test_parameters_sharded_over_two_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    both = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, index, address],
            env=os.environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in "01"
    ]
    try:
        for process in both:
            out, err = process.communicate(timeout=120)
            assert out.endswith("equal\n"), err
    finally:
        for process in both:
            process.kill()
            process.communicate()


def one_process(index: str, address: str) -> None:
    """Labels of parameters that no process has whole, and of the same on every device."""
    jax.distributed.initialize(address, num_processes=2, process_id=int(index))
    network = Net()
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    variables = jax.tree.map(np.asarray, variables)
    predictor, pictures = predictor_of(network), [picture(9, 7)]
    (expected,) = predictor.labels(predictor.place(variables), pictures)
    assert len(np.unique(expected)) > 1
    mesh = Mesh(np.array(jax.devices()), ("fsdp",))
    for axis in ("fsdp", None):

        def shard(x: np.ndarray, axis: str | None = axis) -> jax.Array:
            sharding = NamedSharding(mesh, PartitionSpec(*[None] * (x.ndim - 1), axis))
            return jax.make_array_from_callback(x.shape, sharding, lambda place: x[place])

        far = jax.tree.map(shard, variables)
        assert not any(x.is_fully_addressable for x in jax.tree.leaves(far))
        (found,) = predictor.labels(predictor.place(far), pictures)
        np.testing.assert_array_equal(found, expected)
    print("equal")


if __name__ == "__main__":
    one_process(*sys.argv[1:])
