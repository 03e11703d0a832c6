from setuptools import setup

setup(name="tree", version="1", packages=["tree"], entry_points={"zc.buildout": ["software = tree:Software", "instance = tree:Instance"]})
