"""The task suite: items, checks and reference answers, made from one seed (`make_tasks`)."""
