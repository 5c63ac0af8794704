"""Runs one network with a peer's engine; executed by the AArch64 Python of ``arm64_python.py`` under QEMU.

    python arm64_peer.py onnxruntime MODEL INPUTS.npz OUTPUTS.npz RUNS MARK
    python arm64_peer.py ncnn PARAM,BIN INPUTS.npz OUTPUTS.npz RUNS MARK

Imports nothing of this repository.  One thread.  When the first run and the last one are over, the emulator
is told to note its count, by closing a file descriptor MARK that there is not.
"""

import contextlib
import os
import sys

import numpy as np


def repeat(run, runs, mark):
    """What the last of ``runs`` runs returns."""
    result = None
    for number in range(runs):
        del result
        result = run()
        if number in (0, runs - 1):
            with contextlib.suppress(OSError):
                os.close(mark)
    return result


def onnx_runtime(model, inputs, runs, mark):
    """Outputs by name after ``runs`` runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    for name in names:
        binding.bind_output(name)
    repeat(lambda: session.run_with_iobinding(binding), runs, mark)
    return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))


def ncnn(files, inputs, runs, mark):
    """Outputs by name after ``runs`` runs; inputs lose their batch axis of 1, as ncnn has it."""
    import ncnn as engine

    network = engine.Net()
    network.opt.num_threads = 1
    # As ncnn's own benchmark has it: memory of one run serves the next.
    allocators = (engine.UnlockedPoolAllocator(), engine.PoolAllocator())
    network.opt.blob_allocator, network.opt.workspace_allocator = allocators
    # As the other engines compute: float32 throughout.
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    network.opt.use_bf16_storage = False
    param, weights = files.split(",")
    if network.load_param(param) or network.load_model(weights):
        sys.exit("ncnn cannot load the network")
    outputs = len(network.output_names())
    if any(array.dtype != np.float32 or array.shape[0] != 1 for array in inputs.values()):
        sys.exit(f"ncnn takes no {[(array.dtype.name, array.shape) for array in inputs.values()]}")
    # pnnx numbers inputs and outputs in the order of the ONNX file.  A clone has ncnn's own alignment.
    arrays = [np.ascontiguousarray(array[0]) for array in inputs.values()]
    mats = {f"in{index}": engine.Mat(array).clone() for index, array in enumerate(arrays)}
    wanted = [f"out{index}" for index in range(outputs)]

    def run():
        extractor = network.create_extractor()
        for name, mat in mats.items():
            extractor.input(name, mat)
        results = {}
        for name in wanted:
            status, results[name] = extractor.extract(name)
            if status:
                sys.exit(f"ncnn returns {status} for {name}")
        return results

    results = repeat(run, runs, mark)
    found = {name: np.array(result)[None] for name, result in results.items()}
    # No tensor may outlive its allocator.
    results.clear()
    mats.clear()
    network.clear()
    return found


if __name__ == "__main__":
    peer, model, inputs_file, outputs_file, run_count, mark_number = sys.argv[1:]
    feeds = dict(np.load(inputs_file))
    engine = {"onnxruntime": onnx_runtime, "ncnn": ncnn}[peer]
    np.savez(outputs_file, **engine(model, feeds, int(run_count), int(mark_number)))
