"""A contender that uses python-dynamodb-lock; see src/worker/mod.rs for what it says."""

import argparse
import datetime
import sys
import time

import boto3
from botocore.config import Config
from python_dynamodb_lock.python_dynamodb_lock import DynamoDBLockClient, DynamoDBLockError


def main():
    parser = argparse.ArgumentParser()
    for name in ("peer", "settings", "endpoint", "table"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("number", "threads", "rounds", "hold-ms", "warm-up"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()

    resource = boto3.resource(
        "dynamodb",
        region_name="us-east-1",
        endpoint_url=options.endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(tcp_keepalive=True),
    )
    client = DynamoDBLockClient(resource, table_name=options.table)
    wishes = {}
    if options.settings == "eager":
        wishes["retry_period"] = datetime.timedelta(milliseconds=1)

    for _ in range(options.warm_up):
        client.acquire_lock(f"warm-up-{options.number}").release(best_effort=False)
    say("ready")
    sys.stdin.readline()
    for _ in range(options.rounds):
        lock = acquire(client, wishes, options.number)
        stamp("granted", options.number)
        if options.hold_ms:
            time.sleep(options.hold_ms / 1000)
        began = time.monotonic_ns()
        lock.release(best_effort=False)
        ended = time.monotonic_ns()
        stamp("releasing", options.number, began)
        stamp("released", options.number, ended)


def acquire(client, wishes, number):
    while True:
        stamp("asked", number)
        try:
            return client.acquire_lock("contended", **wishes)
        except DynamoDBLockError as error:
            if error.code != DynamoDBLockError.ACQUIRE_TIMEOUT:
                raise
            stamp("gave-up", number)


def stamp(what, number, at=None):
    say(f"{what} {number} {at or time.monotonic_ns()}")


def say(line):
    print(line, flush=True)


main()
