"""Which model families tie lm_head to the embeddings where config.json does not say: asked of transformers itself.

.venv-vllm/bin/python envs/tied_families.py > workflow/quantbench/engines/vllm/tied_families.txt
"""

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING


def tied(family: str) -> bool:
    """The default of the family's (text) config class; False for a class that has none without arguments."""
    try:
        text = CONFIG_MAPPING[family]().get_text_config()
    except Exception:
        return False
    return bool(getattr(text, "tie_word_embeddings", False))


print(f"# Families whose default is tie_word_embeddings = true, in transformers {transformers.__version__}.")
print("# Made by envs/tied_families.py.")
for name in sorted(CONFIG_MAPPING.keys()):
    if tied(name):
        print(name)
