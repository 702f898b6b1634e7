"""Kernels of the Python that runs the tests, whatever kernels are installed."""

import sys

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager


class OwnKernels(KernelSpecManager):
    """Knows one kernel: this Python."""

    def get_kernel_spec(self, _name):
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
