"""What is computed: layers, blocks of layers, chains and networks, and every number that follows.

A line here knows shapes and bytes, and nothing of processors, schedules or files.
"""
