#!/usr/bin/env bash
# Debian's Slurm for tests/test_slurm.py, which skips without it: as root, where it is missing. Starts no service.
set -euo pipefail
packages=(slurm-wlm slurmdbd mariadb-server munge)
if dpkg --status "${packages[@]}" >/dev/null 2>&1; then exit; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "No Slurm here, and no root with apt-get to install it: its tests will be skipped."
    exit
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends "${packages[@]}" >/dev/null; }; then
    echo "Slurm could not be installed: its tests will be skipped."
fi
