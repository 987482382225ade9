"""The imperative shell: each flow gathers, decides with core, and applies through ports."""
