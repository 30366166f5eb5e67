"""PASCAL VOC 2012 with the additional annotations of SBD."""

from sdnjax.data.builders.base import SegmentationBuilder


class Voc2012Aug(SegmentationBuilder):
    name = "voc2012_aug"
    DESCRIPTION = """
Photographs of PASCAL VOC 2012, every pixel labelled with one of 20 object classes, background
(0) or void (255). The training split is extended by the Semantic Boundaries Dataset. Labels
keep the form of their files: those that are palette images hold classes as indices.
"""
    HOMEPAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
    LICENSE = "None stated for the annotations; images under the terms of Flickr"
    CITATION = """
@article{everingham2015voc,
  title = {The {PASCAL} Visual Object Classes Challenge: A Retrospective},
  author = {Everingham, Mark and Eslami, S. M. Ali and Van Gool, Luc and
            Williams, Christopher K. I. and Winn, John and Zisserman, Andrew},
  journal = {International Journal of Computer Vision}, volume = {111}, number = {1},
  pages = {98--136}, year = {2015}
}
@inproceedings{hariharan2011sbd,
  title = {Semantic Contours from Inverse Detectors},
  author = {Hariharan, Bharath and Arbel{\\'a}ez, Pablo and Bourdev, Lubomir and Maji, Subhransu
            and Malik, Jitendra},
  booktitle = {IEEE International Conference on Computer Vision (ICCV)},
  year = {2011}
}
"""
