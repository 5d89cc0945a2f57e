"""Explorers: ipywidgets panels in which a reader turns a dial and sees the consequence; one module a chapter."""
