"""PyTorch modules to ONNX files.  Only this package imports torch, and only when it is called."""

from deploycc.exporting.torch_export import export

__all__ = ["export"]
