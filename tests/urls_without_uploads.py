"""A host that mounts no uploads."""

urlpatterns: list[object] = []
