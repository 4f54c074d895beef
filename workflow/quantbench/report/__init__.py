"""Result files become tables and pages."""
