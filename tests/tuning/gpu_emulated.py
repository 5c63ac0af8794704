"""A runner for tests: the GPU's, on the emulated driver, each candidate's PTX translated when it comes."""

from __future__ import annotations

import os

from deploycc.emulating import build_module
from deploycc.tuning.device import DeviceRunner
from deploycc.types import Plan


class EmulatedDeviceRunner(DeviceRunner):
    """Needs ``LD_LIBRARY_PATH`` to lead to the emulated driver when its process starts."""

    def _image(self, plan: Plan) -> bytes:
        texts = [image.code.rstrip(b"\0").decode() for image in plan.images if image.kind == "ptx"]
        os.environ["DEPLOYCC_EMULATED_KERNELS"] = ":".join(str(build_module(text)) for text in texts)
        return super()._image(plan)
