"""Callbacks for trainers; each module imports its trainer's library and nothing else does."""
