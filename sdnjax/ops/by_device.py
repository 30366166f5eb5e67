"""A product of features and a kernel with one form for CPUs and one for all other devices."""

from __future__ import annotations

import functools
from typing import Protocol

import jax
from jax import lax

Arrays = tuple[jax.Array, jax.Array]


class Forms(Protocol):
    """Both forms of one product, hashable; they agree but for rounding."""

    def general(self, x: jax.Array, kernel: jax.Array) -> jax.Array: ...

    def on_cpu(self, x: jax.Array, kernel: jax.Array) -> jax.Array: ...

    def gradients_on_cpu(self, x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Arrays: ...


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def by_device(x: jax.Array, kernel: jax.Array, forms: Forms) -> jax.Array:
    """The product, in the form of the device that it is compiled for.

    It has gradients of any order, but no forward mode (`jax.jvp`).
    """
    return lax.platform_dependent(x, kernel, cpu=forms.on_cpu, default=forms.general)


def _forward(x: jax.Array, kernel: jax.Array, forms: Forms) -> tuple[jax.Array, Arrays]:
    return by_device(x, kernel, forms), (x, kernel)


def _backward(forms: Forms, kept: Arrays, dy: jax.Array) -> Arrays:
    def general(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Arrays:
        return jax.vjp(forms.general, x, kernel)[1](dy)

    return lax.platform_dependent(*kept, dy, cpu=forms.gradients_on_cpu, default=general)


by_device.defvjp(_forward, _backward)
