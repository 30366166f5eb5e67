"""Besides setup.cfg: the configurations are part of the wheel, as `sdnjax/configs`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sdnjax*"]), "sdnjax.configs", "sdnjax.configs.studies"],
    package_dir={"sdnjax.configs": "configs", "sdnjax.configs.studies": "configs/studies"},
)
