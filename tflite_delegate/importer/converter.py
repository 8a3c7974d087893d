"""How single operators become Relax: by conversions of our own in place of TVM's.

TVM's importer builds the function and its parameters; what it makes of an operator leaves out
options without a word. Quantised operators are computed in integers, as LiteRT does
(:mod:`tflite_delegate.importer.quantised`), or else become float32 ones between ``dequantize`` and
``quantize``. Those of floats with int8 weights are computed as the delegate does it
(:mod:`tflite_delegate.importer.quantised.hybrid`); what it leaves to TFLite, such as grouped ones,
gets float32 weights: that is more exact than TFLite's kernels, which also quantise the activations.
Layers of Winograd's domain are the one custom operator that is known.
"""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend.tflite.tflite_frontend import OperatorConverter

from tflite_delegate.importer import quantised, winograd
from tflite_delegate.importer.conversions import CONVERTED, Operation, convert
from tflite_delegate.importer.editable import EditableOperator
from tflite_delegate.read.winograd import NAME


class Converter(OperatorConverter):  # type: ignore[misc]
    """TVM's, with our conversions, and with every option decided about."""

    def check_unsupported_ops(self) -> None:
        """Nothing: what is not supported is refused by name where it is converted."""

    def convert(self, node: EditableOperator) -> list[Any] | None:
        """The results of one node in Relax, in order; ``None`` if they are no tensors.

        Raises
        ------
        LeanconvError
            That says which option, type or shape is not supported.
        """
        if node.name == NAME:
            return [winograd.convert(self, node)]
        operation = Operation(self, node)
        if operation.name in CONVERTED:
            result = quantised.convert(operation)
            return convert(operation) if result is None else [operation.emit(result)]
        result = self.convert_map[operation.name](op=node)
        if result is None:  # a handle of a variable, or its value
            return None
        result = self.bb.normalize(result)
        count = len(operation.outputs)
        return [result] if count == 1 else [result[place] for place in range(count)]
