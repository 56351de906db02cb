"""Memory that is freed is there for what is needed next."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from atrous.cli.allocator import keep_freed_memory

if sys.argv[1:]:
    keep_freed_memory()
layers = [torch.nn.Conv2d(64, 64, 3, padding=1) for _ in range(4)]
image = torch.rand(1, 64, 256, 256)
with torch.inference_mode():
    for round in range(20):
        if round == 5:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.nn.Sequential(*layers)(image)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")
def test_what_was_freed_is_not_asked_of_the_system_again():
    def count_fresh_bytes(*arguments: str) -> int:
        command = [sys.executable, "-c", CODE, *arguments]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    one_output = 64 * 256 * 256 * 4
    assert count_fresh_bytes() > 15 * one_output
    assert count_fresh_bytes("keep") < 3 * one_output
