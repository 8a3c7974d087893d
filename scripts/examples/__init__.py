"""Programs of under 80 lines that readers run, read and change: own algorithms, TVM, tvmc."""
