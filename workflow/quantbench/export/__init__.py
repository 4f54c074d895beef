"""Results for other programs: one tidy table, and gauges for a dashboard."""
