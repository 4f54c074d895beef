include: "models_common.smk"


# The output is the folder's record and not the folder: a directory() output cannot be an input file by file, and
# its time changes with every file that is touched in it. The record is moved in with the folder, last.
rule materialize_model:
    input:
        model=DEMO_FILES,
        program="workflow/demo/grow.py",
    output:
        marker=MADE,
    log:
        f"logs/{GPU}/materialize_model/{{model}}.log",
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
        f"logs/{GPU}/quantize_model/{{model}}.log",
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
