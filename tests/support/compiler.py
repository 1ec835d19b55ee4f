"""Skips tests of the kernel on machines without a C++ compiler."""

import shutil

import pytest

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler")
