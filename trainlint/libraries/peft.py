"""PEFT."""

from trainlint.libraries.spec import Table

PEFT = Table(calls={})
