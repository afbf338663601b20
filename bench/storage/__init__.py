"""What a reading costs on disk and how fast dashboards read it, legacy form against this schema."""
