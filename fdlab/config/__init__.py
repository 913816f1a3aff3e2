"""Configuration: compose it, check every value of it, name and describe the run, build objects from it."""
