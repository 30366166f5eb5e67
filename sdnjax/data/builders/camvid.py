"""CamVid, the Cambridge-driving labeled video database, in the SegNet layout."""

from sdnjax.data.builders.base import SegmentationBuilder


class CamVid(SegmentationBuilder):
    name = "camvid"
    DESCRIPTION = """
Frames of street video from a driving car, 480×360 pixels, every pixel labelled with one of
11 classes or void (11). Train and validation splits, and the test split where the source
has it, as distributed with SegNet. Licensed for non-commercial use (CC BY-NC 4.0).
"""
    HOMEPAGE = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"
    LICENSE = "CC BY-NC 4.0"
    CITATION = """
@article{brostow2009camvid,
  title = {Semantic object classes in video: A high-definition ground truth database},
  author = {Brostow, Gabriel J. and Fauqueur, Julien and Cipolla, Roberto},
  journal = {Pattern Recognition Letters}, volume = {30}, number = {2}, pages = {88--97},
  year = {2009}
}
"""
