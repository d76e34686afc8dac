"""A plain, slow simulator of the core's rules, one event at a time, to compare the core with and to read.

Read ``fabric.py`` (links and switches), ``host.py`` (RoCEv2 and the NIC), ``classes.py`` (both with several
data classes), ``srd.py``, ``dcqcn.py``, ``collectives.py``, ``reducing.py``, ``places.py`` and ``program.py``
in this order. ``plane.py`` makes a network of the parts, ``simulator.py`` puts networks together, and
``world.py`` runs a world on both. ``storage.py`` and what it names do the same for file systems.
"""
