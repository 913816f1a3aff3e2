"""Rendered people: body, identity, appearance, scene, camera and renderer."""
