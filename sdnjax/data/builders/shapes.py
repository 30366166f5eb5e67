"""Generated scenes of textured shapes; see `sdnjax.data.shapes`."""

from sdnjax.data.builders.base import SegmentationBuilder


class Shapes(SegmentationBuilder):
    name = "shapes"
    DESCRIPTION = """
Overlapping discs, bars, triangles, rings and hexagons on a speckled ground, 96×96 pixels.
Textures inside a class are stronger than the edges between classes.
"""
    LICENSE = "Apache-2.0"
