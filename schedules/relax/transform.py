"""A Relax pass that computes convolutions and fully-connected layers with leanconv's kernels.

It stands by itself in anybody's pipeline, in front of ``LegalizeOps``::

    module = schedule_convolutions(Simd.named("host"))(module)

Each layer, or block of layers, becomes a call of a kernel with weights that are packed here, at
compile time. The kernels, compiled (:mod:`schedules.relax.kernels`), are among the module's
``external_mods``, as those of TVM's own code generators are; like these, they run under the virtual
machine's bytecode. Whatever the pass does not take it leaves as it is; :class:`FunctionReport` says
why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from schedules.errors import LeanconvError
from schedules.lower.c_abi import lower
from schedules.lower.kernel import CKernel
from schedules.plan.choice import AUTO
from schedules.plan.planner import NO_LIMITS, Limits
from schedules.progress import Progress
from schedules.relax import kernels as relax_kernels
from schedules.relax import network as relax_network
from schedules.relax.kernels import RelaxKernel
from schedules.relax.network import RelaxNetwork
from schedules.select.objective import select_by
from schedules.select.selection import Kernel, Selection
from schedules.target.simd import Simd
from schedules.tuning.records.records import Record

_LOG = logging.getLogger(__name__)

# Otherwise they come out of a pass as RuntimeErrors.
tvm_ffi.register_error("LeanconvError", LeanconvError)
tvm_ffi.register_error("KeyboardInterrupt", KeyboardInterrupt)

#: Compiles kernels: their C functions, by the names of the kernels.
Compiler = Callable[[Sequence[Kernel]], Mapping[str, CKernel]]


@dataclass(frozen=True)
class FunctionReport:
    """What became of one Relax function.

    Parameters
    ----------
    selection : Selection
        Its layers, and what was chosen for each.
    kernels : tuple of RelaxKernel
        All that it calls.
    """

    selection: Selection
    kernels: tuple[RelaxKernel, ...]

    @property
    def compiled(self) -> Mapping[str, CKernel]:
        """The C functions of each kernel by its name in the selection."""
        return {kernel.compiled.name: kernel.compiled for kernel in self.kernels}


def schedule_convolutions(
    simd: Simd,
    *,
    algorithms: Sequence[str] = (AUTO,),
    limits: Limits = NO_LIMITS,
    objective: str = "time",
    records: Sequence[Record] = (),
    compile_kernels: Compiler | None = None,
    progress: Progress | None = None,
    report: Callable[[FunctionReport], object] | None = None,
) -> tvm.transform.Pass:
    """A pass that puts leanconv's kernels in the place of the layers that they serve.

    Parameters
    ----------
    simd : Simd
        The processor to compile for; ``Simd.from_target`` makes it of a TVM target.
    algorithms, limits, objective, records
        As of :func:`schedules.select.objective.select_by`; of several algorithms, each layer takes
        the first that supports it.
    compile_kernels : callable, optional
        Called once, with the kernels of all functions, each of another name; compiles them into
        objects that its owner links with the module, as :mod:`schedules.select.compile` does. By
        default they are lowered here and compiled with the module, which can then run without being
        linked.
    progress : callable, optional
        Called with (kernels done, kernels in all, text), while they are lowered here.
    report : callable, optional
        Called for every Relax function that has layers.

    Raises
    ------
    LeanconvError
        When it runs, if an option makes no sense.
    """

    @tvm.transform.module_pass(opt_level=0, name="ScheduleConvolutions")
    def run(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        module = relax.transform.FoldConstant()(module)
        found: list[tuple[Any, RelaxNetwork, Selection]] = []
        own_limits = replace(limits, leaves_to_xnnpack=False)
        named = {str(variable.name_hint): f for variable, f in module.functions_items()}
        for variable, function in module.functions_items():
            if isinstance(function, relax.Function) and not _is_composite(function):
                network = relax_network.read(str(variable.name_hint), function, named)
                if network.layers:
                    (chosen,) = select_by(
                        [network], simd, algorithms, own_limits, objective, records
                    )
                    found.append((variable, network, _renamed(chosen, f"{network.name}_", simd)))
        wanted = [kernel for _, _, selection in found for kernel in selection.kernels]
        functions = tvm.IRModule({})
        if compile_kernels is None:
            compiled = _lower(wanted, simd, functions, progress)
        else:
            compiled = compile_kernels(wanted)
        kernels: dict[str, RelaxKernel] = {}
        for variable, network, selection in found:
            rewriter = _Rewriter(network, selection, compiled, simd)
            module.update_func(variable, rewriter.rewrite(module[variable]))
            kernels |= rewriter.kernels
            _log_unmatched(selection)
            if report is not None:
                report(FunctionReport(selection, tuple(rewriter.kernels.values())))
        if not kernels:
            return module
        library = relax_kernels.build(list(kernels.values()), functions, simd)
        others = module.attrs.get("external_mods") or () if module.attrs else ()
        return module.with_attr("external_mods", [*others, library])

    return run


def _is_composite(function: relax.Function) -> bool:
    """Whether another code generator has claimed it already."""
    attributes = function.attrs or {}
    return any(name in attributes for name in ("Composite", "Codegen", "Primitive"))


def _renamed(selection: Selection, prefix: str, simd: Simd) -> Selection:
    """``selection`` with kernel names of its own, and only the default kernel of each layer.

    That is what TVM's threads run, one on each core.
    """

    def renamed(kernel: Kernel) -> Kernel:
        kernel = kernel.on(simd.cores)
        return replace(kernel, name=prefix + kernel.name, shared=None)

    layers = (
        replace(selected, kernels=tuple(map(renamed, selected.kernels[:1])))
        for selected in selection.layers
    )
    blocks = {chain: renamed(kernel) for chain, kernel in selection.blocks.items()}
    return replace(selection, layers=tuple(layers), blocks=blocks)


def _lower(
    kernels: Sequence[Kernel], simd: Simd, functions: tvm.IRModule, progress: Progress | None
) -> Mapping[str, CKernel]:
    """Add the C functions of all kernels to ``functions``."""
    compiled: dict[str, CKernel] = {}
    for done, kernel in enumerate(kernels):
        if progress is not None:
            text = f"{kernel.plan.algorithm} {kernel.plan.describe()}"
            progress(done, len(kernels), text)
        module, described = lower({kernel.name: kernel.plan.schedule(simd)}, simd)
        functions.update(module)
        compiled |= described
    return compiled


def _log_unmatched(selection: Selection) -> None:
    for selected in selection.layers:
        if not selected.kernels:
            layer = selected.layer
            _LOG.info(
                "%s: %s %s is left to TVM: %s",
                selection.network.name,
                layer.op,
                layer.geometry,
                selected.reason,
            )


class _Rewriter:
    """Puts calls of kernels into one function."""

    def __init__(
        self,
        network: RelaxNetwork,
        selection: Selection,
        compiled: Mapping[str, CKernel],
        simd: Simd,
    ) -> None:
        self.network = network
        self.compiled = compiled
        self.simd = simd
        self.kernels: dict[str, RelaxKernel] = {}
        self.builder = relax.BlockBuilder()
        #: What each kernel computes: positions of layers, by the node that comes last.
        self.units: dict[int, tuple[tuple[int, ...], Kernel]] = {}
        #: Nodes that kernels compute.
        self.taken: set[int] = set()
        for chain, kernel in selection.units.items():
            nodes = [node for position in chain for node in network.layers[position].nodes]
            self.units[max(nodes)] = chain, kernel
            self.taken.update(nodes)

    def rewrite(self, function: relax.Function) -> relax.Function:
        """``function`` with kernels in the place of its layers."""
        node, blocks = 0, []
        for block in function.body.blocks:
            bindings = []
            for binding in block.bindings:
                if node in self.units:
                    bindings += self._call(binding.var, *self.units[node])
                elif node not in self.taken:
                    bindings.append(binding)
                node += 1
            blocks.append(type(block)(bindings))
        body = self.builder.normalize(relax.SeqExpr(blocks, function.body.body))
        return relax.Function(
            function.params, body, function.ret_ty, function.is_pure, function.attrs
        )

    def _call(self, output: relax.Var, chain: Sequence[int], kernel: Kernel) -> list[Any]:
        """Bindings that compute ``output``."""
        network = self.network
        layers = [network.layers[position] for position in chain]
        first, last = layers[0], layers[-1]
        assert first.input is not None
        source = network.variables[first.input]
        runtime = self._kernel(kernel, _shape(source), _shape(output))
        weights, bias = runtime.pack(
            [network.constants[layer.index] for layer in layers], self.simd
        )
        tensors = [source]
        if last.residual is not None:
            tensors.append(network.variables[last.residual])
        arguments = [*tensors, relax.const(weights), relax.const(bias)]
        types = [output.ty]
        if runtime.workspace_bytes:
            types.append(relax.TensorType((runtime.workspace_bytes,), "uint8"))
        call = self.builder.normalize(relax.call_dps_packed(runtime.name, arguments, types))
        if len(types) == 1:
            return [relax.VarBinding(output, call)]
        both = relax.DataflowVar(f"{output.name}_workspace", relax.TupleType(types))
        result = self.builder.normalize(relax.TupleGetItem(both, 0))
        return [relax.VarBinding(both, call), relax.VarBinding(output, result)]

    def _kernel(
        self, kernel: Kernel, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
    ) -> RelaxKernel:
        """``kernel`` between tensors of these shapes: of any batch, and any rank if it is dense."""
        shapes = input_shape, output_shape
        same = [k for k in self.kernels.values() if k.compiled.name == kernel.name]
        for other in same:
            if (other.input_shape, other.output_shape) == shapes:
                return other
        name = f"{kernel.name}_{len(same)}" if same else kernel.name
        compiled = self.compiled[kernel.name]
        threads = min(self.simd.cores, max(stage.extent for stage in compiled.stages))
        self.kernels[name] = RelaxKernel(name, kernel.plan, compiled, *shapes, threads)
        return self.kernels[name]


def _shape(variable: relax.Var) -> tuple[int, ...]:
    return tuple(int(size) for size in variable.ty.shape.values)
