"""Detection methods: which location learns what, what the head predicts, and how wrong it is.

A method is one folder (`fcos/`), or an installed package with an entry point in the group `fcos_cli.methods`; it gives
an assigner, a head, losses, or some of them. `interface.py` is what they must offer, `registry.py` knows them all.
docs/add-a-method.md shows how one is added. A folder's `__init__.py` and tables import no torch.
"""
