#!/bin/sh
# Writes the hashed locks from pyproject.toml. dev.txt comes first, and the others use its versions. So the images contain
# the tested versions. Call it with `make locks`. `make locks UPGRADE=--upgrade` moves to the newest versions.
set -eu
cd "$(dirname "$0")/.."

compile() {
    lock=requirements/$1.txt
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
        --custom-compile-command 'make locks' --output-file "$lock" "$@"
}

# shellcheck disable=SC2086 # UPGRADE may be empty or several words
compile dev pyproject.toml --all-extras --group dev ${UPGRADE:-}
for process in operator supernode peer runtime traces cli; do
    compile "$process" pyproject.toml --extra "$process" --constraints requirements/dev.txt
done
echo hatchling | compile build - --constraints requirements/dev.txt
compile release --group release --constraints requirements/dev.txt
compile audit --group audit --constraints requirements/dev.txt --constraints requirements/release.txt
compile docs --group docs --constraints requirements/dev.txt
