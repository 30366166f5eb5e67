"""Pascal Context with 59 classes, and with background as the first of 60."""

from sdnjax.data.builders.base import SegmentationBuilder

_DESCRIPTION = """
The photographs of PASCAL VOC 2010 with a label for every pixel. Of the 459 categories that
the annotators used, 59 are frequent enough to be classes; all others are background, which
{background}. Label files that were MATLAB's are stored as PNG images of 0 (background) to 59.
"""
_HOMEPAGE = "https://cs.stanford.edu/~roozbeh/pascal-context/"
_LICENSE = "None stated for the annotations; images under the terms of Flickr"
_CITATION = """
@inproceedings{mottaghi2014context,
  title = {The Role of Context for Object Detection and Semantic Segmentation in the Wild},
  author = {Mottaghi, Roozbeh and Chen, Xianjie and Liu, Xiaobai and Cho, Nam-Gyu and
            Lee, Seong-Whan and Fidler, Sanja and Urtasun, Raquel and Yuille, Alan},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2014}
}
"""


class PascalContext59(SegmentationBuilder):
    name = "pascal_context_59"
    DESCRIPTION = _DESCRIPTION.format(background="is ignored here")
    HOMEPAGE, LICENSE, CITATION = _HOMEPAGE, _LICENSE, _CITATION


class PascalContext60(SegmentationBuilder):
    name = "pascal_context_60"
    DESCRIPTION = _DESCRIPTION.format(background="is a class of its own here")
    HOMEPAGE, LICENSE, CITATION = _HOMEPAGE, _LICENSE, _CITATION
