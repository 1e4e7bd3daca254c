"""Hands to setuptools what tools/backend.py has compiled: nothing, unless a compiled wheel is built."""

from backend import EXTENSIONS
from setuptools import setup

setup(ext_modules=EXTENSIONS)
