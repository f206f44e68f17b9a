"""Make the bucket that MLflow keeps artifacts in, which MLflow itself does not: exit 0 once it is.

`python make_bucket.py NAME`; the store is MLFLOW_S3_ENDPOINT_URL, the account AWS_ACCESS_KEY_ID
and AWS_SECRET_ACCESS_KEY.
"""

from __future__ import annotations

import os
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def make_bucket(name: str, endpoint: str) -> None:
    """Make the bucket where it is not there yet. Raises ClientError, BotoCoreError."""
    client = boto3.client("s3", endpoint_url=endpoint)
    if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=name)


def main() -> None:
    endpoint = os.environ["MLFLOW_S3_ENDPOINT_URL"]
    try:
        make_bucket(sys.argv[1], endpoint)
    except (ClientError, BotoCoreError) as error:
        sys.exit(f"no bucket {sys.argv[1]!r} at {endpoint}: {error}")


if __name__ == "__main__":
    main()
