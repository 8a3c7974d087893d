"""Passes over loops that schedules marked: counted by data, or asking for weights ahead."""
