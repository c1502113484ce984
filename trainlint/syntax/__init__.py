"""From bytes to the IR: the only room that imports libcst, and only when a file is parsed."""
