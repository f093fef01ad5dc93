"""The params of `tone`, as JSON Schema, and their defaults."""

from collections.abc import Mapping
from typing import Any

from gpuworker.engine import MAX_CHECKPOINT_BYTES

MAX_BLOCK_MS = 10_000
MAX_BATCH = 64

DEFAULTS: Mapping[str, Any] = {
    "seconds": 2.0,
    "block_ms": 100,
    "compute_ms": 0,
    "device": "shared",
    "batch_ms": 0,
    "max_batch": 1,
}
PROPERTIES: Mapping[str, Any] = {
    "seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 36_000, "default": 2.0},
    "block_ms": {"type": "integer", "minimum": 1, "maximum": MAX_BLOCK_MS, "default": 100},
    "compute_ms": {
        "type": "number",
        "minimum": 0,
        "maximum": 600_000,
        "default": 0,
        "description": "time the device is busy for each block",
    },
    "device": {
        "enum": ["shared", "own"],
        "default": "shared",
        "description": "shared: one block at a time, as on a GPU; own: each job waits for itself alone",
    },
    "batch_ms": {
        "type": "number",
        "minimum": 0,
        "maximum": 600_000,
        "default": 0,
        "description": "added to a block's compute_ms for each further job of a batch",
    },
    "max_batch": {"type": "integer", "minimum": 1, "maximum": MAX_BATCH, "default": 1},
}
FAULT_PROPERTIES: Mapping[str, Any] = {
    "fault": {
        "type": "object",
        "required": ["kind"],
        "additionalProperties": False,
        "properties": {
            "kind": {"enum": ["raise", "oom", "exit", "hang", "nan", "slow"]},
            "at_block": {"type": "integer", "minimum": 0, "default": 0},
            "times": {"type": "integer", "minimum": 1, "default": 1, "description": "in attempts, from the first on"},
            "min_batch": {
                "type": "integer",
                "minimum": 1,
                "default": 1,
                "description": "only where so many jobs make the block together",
            },
        },
    },
    "checkpoint_bytes": {
        "type": "integer",
        "minimum": 16,
        "maximum": MAX_CHECKPOINT_BYTES,
        "description": "after each block a growing checkpoint of this size; a replacement must get all of them",
    },
    "gate": {
        "type": "object",
        "required": ["path"],
        "additionalProperties": False,
        "properties": {
            "path": {"type": "string", "pattern": "^/", "description": "the block waits until this file exists"},
            "before_block": {"type": "integer", "minimum": 0, "default": 0},
        },
    },
}
