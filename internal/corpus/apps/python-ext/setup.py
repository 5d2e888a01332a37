from setuptools import Extension, setup

setup(
    name="fastsum",
    version="1.0",
    py_modules=["fastsum"],
    ext_modules=[Extension("_fastsum", ["_fastsum.c"])],
    entry_points={"console_scripts": ["fastsum=fastsum:main"]},
)
