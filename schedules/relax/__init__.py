"""The Relax pass: layers found in a function become kernels, the rest gets CPU schedules."""
