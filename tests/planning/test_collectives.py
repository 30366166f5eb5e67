"""What is sent: counted in a program written by hand, and in programs that XLA compiles."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from sdnjax.planning.collectives import collectives, of_activations, totals
from sdnjax.training.sharding import data_mesh

# One of each form that XLA prints: in the entry, in loops inside loops with and without a known
# number of turns, as a pair of start and done, as a tuple.
HLO = """HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%inner_body (p: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %p = (s32[], bf16[8,4]{1,0}) parameter(0)
  %x = bf16[8,4]{1,0} get-tuple-element(%p), index=1
  %r = bf16[8,4]{1,0} all-reduce(%x), replica_groups={}, to_apply=%add, metadata={op_name="a/b"}
  ROOT %t = (s32[], bf16[8,4]{1,0}) tuple(%i, %r)
}

%body (p: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %p = (s32[], bf16[8,4]{1,0}) parameter(0)
  ROOT %w = (s32[], bf16[8,4]{1,0}) while(%p), condition=%c, body=%inner_body, \
backend_config={"known_trip_count":{"n":"5"},"known_init_step":{"init":"0","step":"1"}}
}

%unknown (p: (s32[], f32[16])) -> (s32[], f32[16]) {
  %p = (s32[], f32[16]{0}) parameter(0)
  %g = f32[16]{0} all-gather(%y), dimensions={0}, metadata={op_name="jit(step)/head/concatenate"}
  ROOT %t = (s32[], f32[16]{0}) tuple(%i, %g)
}

ENTRY %main (q: f32[4,4]) -> f32[4,4] {
  %q = f32[4,4]{1,0} parameter(0)
  %s = (f32[10]{0}, f32[]) all-reduce-start(%u, %v), channel_id=1, to_apply=%add
  %d = (f32[10]{0}, f32[]) all-reduce-done(%s)
  %gs = (f32[4]{0}, f32[32]{0}) all-gather-start(%q2), dimensions={0}
  %gd = f32[32]{0} all-gather-done(%gs)
  %rs = f32[3]{0} reduce-scatter(%z), dimensions={0}, to_apply=%add
  %w = (s32[], bf16[8,4]{1,0}) while(%q), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %w2 = (s32[], f32[16]{0}) while(%q), condition=%c, body=%unknown
  ROOT %r = f32[4,4]{1,0} copy(%q)
}
"""


def test_each_form_and_loops():
    found = totals(collectives(HLO, devices=8))
    assert found == {
        "all-reduce": {"count": 1 + 15, "bytes": 44 + 15 * 64, "exact": True},
        "reduce-scatter": {"count": 1, "bytes": 8 * 12, "exact": True},
        "all-gather": {"count": 2, "bytes": 128 + 64, "exact": False},
    }


def test_what_is_no_leaf_of_the_state_is_an_activation():
    found = collectives(HLO, devices=8)
    assert of_activations(found, [32, 16]) == []
    (one,) = of_activations(found, [32])
    assert (one.kind, one.bytes, one.origin) == ("all-gather", 64, "jit(step)/head/concatenate")


def compiled(function, shape, spec):
    mesh = data_mesh(8)
    x = jax.ShapeDtypeStruct(
        shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data"))
    )
    out = NamedSharding(mesh, spec)
    return collectives(jax.jit(function, out_shardings=out).lower(x).compile().as_text(), 8)


def test_what_xla_makes_of_a_sum_in_a_loop():
    def function(x):
        return lax.scan(lambda c, _: (c + jnp.sum(jnp.sin(c * x), axis=0), None), x[0], length=6)[0]

    found = totals(compiled(function, (16, 5), PartitionSpec()))
    # And the first row, which all devices begin with.
    assert found["all-reduce"] == {"count": 6 + 1, "bytes": 7 * 20, "exact": True}


def test_what_xla_makes_of_features_that_travel():
    found = compiled(lambda x: x * 2, (16, 5), PartitionSpec())
    (one,) = of_activations(found, [7])
    assert (one.kind, one.bytes) == ("all-gather", 16 * 5 * 4)
