"""What runtimes hold of memory: on the heap, and as the kernel accounts for it."""
