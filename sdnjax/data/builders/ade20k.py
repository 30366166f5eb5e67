"""ADE20K as the scene parsing benchmark uses it (ADEChallengeData2016)."""

from sdnjax.data.builders.base import SegmentationBuilder


class Ade20k(SegmentationBuilder):
    name = "ade20k"
    DESCRIPTION = """
Photographs of indoor and outdoor scenes, every pixel labelled with one of the 150 classes of
the scene parsing benchmark. Label files hold 1 to 150, and 0 where a pixel belongs to none of
them. The test images have no public labels and are left out.
"""
    HOMEPAGE = "http://sceneparsing.csail.mit.edu/"
    LICENSE = (
        "Annotations under the BSD 3-Clause licence; images for non-commercial research and "
        "education, their copyright belongs to their owners"
    )
    CITATION = """
@inproceedings{zhou2017ade20k,
  title = {Scene Parsing through {ADE20K} Dataset},
  author = {Zhou, Bolei and Zhao, Hang and Puig, Xavier and Fidler, Sanja and
            Barriuso, Adela and Torralba, Antonio},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2017}
}
"""
