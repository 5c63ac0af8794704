"""The example programs, and the pages that tell how to write one."""
