#!/usr/bin/env bash
# Install Debian's Slurm for tests/workflow/test_slurm.py, as root and if it is missing. Starts no
# service. Without Slurm the tests are skipped.
set -euo pipefail
packages=(slurm-wlm slurmdbd mariadb-server munge)
if dpkg --status "${packages[@]}" >/dev/null 2>&1; then exit; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Slurm is not installed, and installing it needs root and apt-get. Its tests are skipped."
    exit
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install --quiet=2 --yes --no-install-recommends "${packages[@]}")
if ! { apt-get update --quiet=2 && "${install[@]}" >/dev/null; }; then
    echo "Slurm could not be installed. Its tests are skipped."
fi
