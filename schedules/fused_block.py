class FusedBlock:
    name = "fused_block"
    source = "stub"

    def supports(self, block, simd):
        return None

    def default_knobs(self, block, simd, knobs):
        return {}

    def macs(self, block, knobs):
        return int(block.macs * 1.1)

    def moved_elements(self, block, knobs):
        return 0

    def packed_parts(self, block, knobs):
        from schedules import packing

        return tuple(
            packing.taps(l) if l.is_depthwise else packing.panels(l, 32) for l in block.layers
        )

    def workspace_bytes(self, block, knobs):
        return 150000

    def expected_error(self, block, knobs):
        return 1e-7


FUSED_BLOCK = FusedBlock()
