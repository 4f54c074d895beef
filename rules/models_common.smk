DEMO_FILES = multiext(
    "data/demo-model/",
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
MADE = f"models/{GPU}/{{model}}/provenance.json"


def one_of(names):
    """Pattern of exactly these names; of nothing if there are none."""
    return "|".join(names) or "(?!)"


def recipe_of(wildcards):
    """How a model is quantized here; without calibration where there is none, so that its keys rerun nothing."""
    recipe = dict(config["models"][wildcards.model]["quantize"])
    if recipe["method"] == "rtn":
        recipe.pop("calibration")
    return recipe


def made_from(wildcards):
    """The record of the model that is quantized, if that is made here too."""
    base = config["models"][wildcards.model]["quantize"]["from"]
    return MADE.format(model=base) if made_here(base) else []


def calibration_of(wildcards):
    """The calibration text of gptq and awq."""
    calibration = recipe_of(wildcards).get("calibration")
    return calibration["file"] if calibration else []


def quantizer_of(wildcards):
    """The program that quantizes."""
    name = "rtn" if recipe_of(wildcards)["method"] == "rtn" else "llmcompressor_oneshot"
    return f"workflow/quantizers/{name}.py"


def quantizer_python(wildcards):
    """The interpreter that the program needs."""
    return config[
        (
            "vllm_python"
            if recipe_of(wildcards)["method"] == "rtn"
            else "llmcompressor_python"
        )
    ]


def quantized_source(wildcards):
    """Folder or hub id of the model that is quantized."""
    return PLAN.source(config["models"][wildcards.model]["quantize"]["from"])


def grow_of(wildcards):
    """Intermediate size of the demo model."""
    return config["models"][wildcards.model]["grow"]


def model_files(wildcards):
    """What must be there before a model's server can start: nothing for models that come from elsewhere."""
    return MADE.format(model=wildcards.model) if made_here(wildcards.model) else []


def floor_of(wildcards):
    """Concurrencies at which a model is asked again: the baseline only, alone and under load."""
    return (
        [1, config["quality"]["floor_concurrency"]]
        if wildcards.model == BASELINE
        else []
    )
