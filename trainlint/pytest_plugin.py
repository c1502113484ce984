"""The pytest plugin's door. It loads torch only when something is watched."""
