"""The configuration: schema, layers, and the plan that comes of them."""
