"""Health of an MLflow server as a sweep sees it: exit 0 where it lets us search experiments.

`/health` answers 200 also where every call is refused: for its Host header, for the password, or
because the database is away. Address and account are MLFLOW_TRACKING_URI, _USERNAME and _PASSWORD.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.error
import urllib.request

PATIENCE_SECONDS = 8.0


def search_experiments(uri: str, username: str, password: str) -> str | None:
    """Why a search was not answered; None where it was."""
    request = urllib.request.Request(
        f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 1}).encode(),
        headers={"Content-Type": "application/json"},
    )
    if username:
        account = base64.b64encode(f"{username}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {account}")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        return f"status {error.code}: {error.read(200).decode(errors='replace')}"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def main() -> None:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    account = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    problem = search_experiments(uri, *account)
    if problem:
        sys.exit(f"{uri} does not let us search experiments: {problem}")


if __name__ == "__main__":
    main()
