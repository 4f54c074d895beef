rule start_server:
    input:
        by_content("start_server", lambda wildcards: made(wildcards.model)),
    output:
        # Kept, never temp: it says what was measured. Blocks start a missing server by themselves.
        ready=RESULTS.pattern("ready"),
        serve_sh=RESULTS.pattern("serve_sh"),
    log:
        f"logs/{GPU}/start_server/{{model}}.log",
    priority: start_priority
    conda:
        ENVIRONMENT
    resources:
        **LANE_RESOURCES,
    params:
        spec=spec_of,
        identity=identity_of,
    script:
        "../workflow/scripts/start_server.py"


# After all else of its lane: it stops what is up there.
rule measure_startup:
    input:
        by_content("measure_startup", lambda wildcards: made(wildcards.model)),
    output:
        RESULTS.pattern("startup"),
    log:
        f"logs/{GPU}/measure_startup/{{model}}.log",
    conda:
        ENVIRONMENT
    resources:
        **LANE_RESOURCES,
    params:
        spec=spec_of,
        rounds=config["startup_rounds"],
    script:
        "../workflow/scripts/measure_startup.py"


rule stop_server:
    input:
        measured=measured_of_model,
        answers=answers_of_model,
    output:
        session=RESULTS.pattern("session"),
    log:
        f"logs/{GPU}/stop_server/{{model}}.log",
    priority: stop_priority
    conda:
        ENVIRONMENT
    resources:
        **LANE_RESOURCES,
    params:
        spec=spec_of,
    script:
        "../workflow/scripts/stop_server.py"
