DEMO_FILES = multiext(
    "data/demo-model/",
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
MADE = "models/{model}/provenance.json"


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


# The output is the folder's record and not the folder: a directory() output cannot be an input file by file, and
# its time changes with every file that is touched in it. The record is moved in with the folder, last.
rule materialize_model:
    input:
        model=DEMO_FILES,
        program="workflow/demo/grow.py",
    output:
        marker=MADE,
    log:
        "logs/models/{model}.log",
    wildcard_constraints:
        model=one_of(
            name for name, m in config["models"].items() if m["source"] == "demo"
        ),
    # Before any server starts: a lane interleaves only the models that are ready.
    priority: 10**8
    conda:
        "../envs/pipeline.yaml"
    params:
        grow=grow_of,
        python=VLLM_PYTHON,
    script:
        "../workflow/scripts/materialize_model.py"


rule quantize_model:
    input:
        base=made_from,
        calibration=calibration_of,
        program=quantizer_of,
    output:
        marker=MADE,
    log:
        "logs/models/{model}.log",
    wildcard_constraints:
        model=one_of(name for name, m in config["models"].items() if m["quantize"]),
    # Before any server starts: a lane interleaves only the models that are ready.
    priority: 10**8
    conda:
        "../envs/pipeline.yaml"
    params:
        recipe=recipe_of,
        source=quantized_source,
        python=quantizer_python,
    script:
        "../workflow/scripts/quantize_model.py"
