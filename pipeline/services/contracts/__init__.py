"""The published contract, made from the very types the code fills.

schemas         JSON Schema (2020-12): one file a CloudEvents type, and the structured envelope
asyncapi        the AsyncAPI 3.0 document: topics, keys, headers, and which message lies where
compatibility   what may change within v1, and what may not
files           the folder docs/contracts: written, checked, frozen
"""

from pipeline.services.contracts.compatibility import breakages
from pipeline.services.contracts.files import BASELINE, differences, freeze, incompatibilities, read, render, write

__all__ = ["BASELINE", "breakages", "differences", "freeze", "incompatibilities", "read", "render", "write"]
