"""Draws scenes in numpy: textures -> canvas -> sky, terrain, subjects -> renderer."""
