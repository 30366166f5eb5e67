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

    It has gradients of any order, from the second on in the general form, but no forward mode
    (`jax.jvp`).
    """
    return lax.platform_dependent(x, kernel, cpu=forms.on_cpu, default=forms.general)


def _forward(x: jax.Array, kernel: jax.Array, forms: Forms) -> tuple[jax.Array, Arrays]:
    return by_device(x, kernel, forms), (x, kernel)


def _backward(forms: Forms, kept: Arrays, dy: jax.Array) -> Arrays:
    return _gradients(*kept, dy, forms)


by_device.defvjp(_forward, _backward)


def _general(x: jax.Array, kernel: jax.Array, dy: jax.Array, forms: Forms) -> Arrays:
    return jax.vjp(forms.general, x, kernel)[1](dy)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _gradients(x: jax.Array, kernel: jax.Array, dy: jax.Array, forms: Forms) -> Arrays:
    general = functools.partial(_general, forms=forms)
    return lax.platform_dependent(x, kernel, dy, cpu=forms.gradients_on_cpu, default=general)


def _gradients_forward(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, forms: Forms
) -> tuple[Arrays, tuple[jax.Array, jax.Array, jax.Array]]:
    return _gradients(x, kernel, dy, forms), (x, kernel, dy)


def _gradients_backward(
    forms: Forms, kept: tuple[jax.Array, jax.Array, jax.Array], g: Arrays
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return jax.vjp(functools.partial(_general, forms=forms), *kept)[1](g)


_gradients.defvjp(_gradients_forward, _gradients_backward)
