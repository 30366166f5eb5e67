"""Cityscapes with its fine annotations."""

from sdnjax.data.builders.base import SegmentationBuilder


class Cityscapes(SegmentationBuilder):
    name = "cityscapes"
    DESCRIPTION = """
Street scenes of 50 cities from a driving car, 2048×1024 pixels, finely annotated. Label files
hold the 34 label ids, of which the benchmark evaluates 19.
"""
    HOMEPAGE = "https://www.cityscapes-dataset.com/"
    LICENSE = "Cityscapes' own terms: non-commercial use after registration"
    CITATION = """
@inproceedings{cordts2016cityscapes,
  title = {The {Cityscapes} Dataset for Semantic Urban Scene Understanding},
  author = {Cordts, Marius and Omran, Mohamed and Ramos, Sebastian and Rehfeld, Timo and
            Enzweiler, Markus and Benenson, Rodrigo and Franke, Uwe and Roth, Stefan and
            Schiele, Bernt},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2016}
}
"""
