"""Switchable online knowledge distillation (SwitOKD, ECCV 2022): one trial, spec to weights."""

__version__ = "0.1.0"
