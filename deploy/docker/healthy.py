#!/usr/bin/env python3
"""A container's health check: does the worker in it say that it is ready? (its /readyz on PASSERBY_METRICS_PORT)"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

URL = f"http://127.0.0.1:{os.environ.get('PASSERBY_METRICS_PORT', '9464')}/readyz"


def main() -> int:
    try:
        with urllib.request.urlopen(URL, timeout=4) as answer:
            print(answer.read().decode().strip())
    except urllib.error.HTTPError as error:  # 503: what is missing, a line each
        print(error.read().decode().strip())
        return 1
    except OSError as error:
        print(f"{URL}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
