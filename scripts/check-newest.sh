#!/usr/bin/env bash
# Runs the tests that a newer dependency could make wrong without a compiler's noticing,
# with the newest versions that Cargo.toml allows: what a program gets that adds this
# crate today. Cargo.lock is left alone.
#
#   scripts/check-newest.sh
#
# They are about the contract with the store, what is sent when, and which clock signs.
# Takes three to five minutes on two cores, of which the tests take one and a half.
set -euo pipefail
cd "$(dirname "$0")/.."

newest=target/newest
rm -rf "$newest/source"
mkdir -p "$newest/source"
cp -r Cargo.toml Cargo.lock README.md src tests benches examples docs "$newest/source/"
cd "$newest/source"

# Newer than the oldest compiler that is supported can build, too.
export CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS=allow
cargo update --quiet
cargo tree --quiet --features aws-sdk --depth 2 --prefix none |
    grep -E '^(aws-runtime|aws-sdk-dynamodb|aws-smithy-runtime|rusoto_core|ureq) ' | sort -u

# What has not changed is there already.
export CARGO_TARGET_DIR="$PWD/../.."
cargo test --features aws-sdk --lib aws::
cargo test --features aws-sdk --test contract --test aws_sdk

echo "the newest dependencies are in order"
