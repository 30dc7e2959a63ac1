"""Lays the files of a workspace (Snakefile, workflow, config, profiles, envs) into the wheel, for `scrimp init`.

They stay at the root of the repository, where a checkout is a workspace itself.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
WORKSPACE = ("Snakefile", "config", "envs", "profiles", "workflow")


class BuildWithWorkspace(build_py):
    """The package, and beside it the workspace's files, as data of it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a checkout has them
            return
        target = Path(self.build_lib) / "scrimp" / "workspace"
        shutil.rmtree(target, ignore_errors=True)
        for name in WORKSPACE:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / name)


setup(cmdclass={"build_py": BuildWithWorkspace})
