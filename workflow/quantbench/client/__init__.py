"""The load client, the metrics it yields, and its own error."""
