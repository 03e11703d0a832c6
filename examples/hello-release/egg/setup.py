from setuptools import setup, find_packages
setup(name="hello", version="1.0", packages=find_packages(), zip_safe=False,
      entry_points={"zc.buildout": ["software = hello:Software", "instance = hello:Instance"]})
