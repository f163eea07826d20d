#!/usr/bin/env bash
# Checks that no dependency asks for a newer compiler than Cargo.toml states.
# (Our own code is held to it by clippy's incompatible_msrv lint.)
set -euo pipefail
cd "$(dirname "$0")/.."
cargo metadata --locked --format-version 1 | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
version = lambda p: tuple(int(n) for n in (p["rust_version"] or "0").split("."))
ours = next(p for p in packages if p["name"] == "dynamodb-fifo-lock")
pad = lambda v: v + (0,) * (3 - len(v))
newer = [p for p in packages if pad(version(p)) > pad(version(ours))]
for p in newer:
    print(p["name"], p["version"], "needs Rust", p["rust_version"])
print("stated:", ours["rust_version"])
sys.exit(bool(newer))
'
