"""The compiled core: ``engine`` is its only module."""
