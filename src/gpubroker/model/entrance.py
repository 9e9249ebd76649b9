"""What the recipe on a machine and whoever logs in there agree on.

Where a VM runs a container, a login lands inside it, once it is there.
"""

from __future__ import annotations

HOST_MARKER = "GPUBROKER_HOST=1"
"""First word of an SSH command that is meant for the VM itself, not for the container on it.

An assignment, so that a machine without our recipe takes the command as well.
"""
NOT_READY = 75
"""Exit code of an SSH command while the container is not there yet; stderr says what is awaited."""
FAILED = 70
"""Exit code of an SSH command where there will be no container; stderr says why."""
CONTAINER_MARK = "GPUBROKER_CONTAINER"
"""Variable that is set in every process of such a container."""
