"""Hints for ControlNets made of pictures: edges, lines, scribbles, depth, segments, poses, colours."""
