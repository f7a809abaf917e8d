"""The HTTP contract as OpenAPI. A host's drf-spectacular finds it by itself.

The serializers say what each field is. ``components`` gives them names, and adds the limits that a
serializer does not check; ``errors`` describes what an operation declares that it raises.
"""

from . import components, operations

__all__ = ["components", "operations"]
