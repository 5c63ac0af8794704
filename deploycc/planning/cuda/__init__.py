"""GPU kernels of a plan: TensorIR with thread bindings to CUDA C, and that to machine code."""

from deploycc.planning.cuda.kernels import DeviceKernels, compile_device_kernels

__all__ = ["DeviceKernels", "compile_device_kernels"]
