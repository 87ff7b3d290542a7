"""The one build step that pyproject.toml cannot state; everything else stands there.

The notebooks, the profiling lab's problems and the requirements lie beside the package, where a person opens
them. A wheel ships copies of them inside the package, where `helpers.bootstrap.suite_file` finds them.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

NOTEBOOKS = (
    "ML_Assignment_Part2.ipynb",
    "labs/Fixed_Budget_Pretraining.ipynb",
    "labs/Training_Loop_Profiling.ipynb",
)
PROBLEMS = (path for kind in ("md", "py", "toml") for path in Path("labs/problems").rglob(f"*.{kind}"))
SHIPPED = (*NOTEBOOKS, "requirements.txt", *sorted(path.as_posix() for path in PROBLEMS))


class BuildWithNotebooks(build_py):
    """Build the modules, then add copies of `SHIPPED` below `helpers/shipped`."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                copy = Path(self.build_lib, "helpers", "shipped", name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(name, copy)

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *SHIPPED]


setup(cmdclass={"build_py": BuildWithNotebooks})
