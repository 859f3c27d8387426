#!/usr/bin/env bash
# Install Debian's Slurm (tests/workflow/test_slurm.py) and Chromium (tests/workflow/test_report.py), as
# root and if they are missing. Starts no service. Tests of a program that is not there are skipped.
set -euo pipefail
packages=(slurm-wlm slurmdbd mariadb-server munge chromium)
if dpkg --status "${packages[@]}" >/dev/null 2>&1; then exit; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Slurm or Chromium is not installed, and that needs root and apt-get. Their tests are skipped."
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
    echo "Slurm or Chromium could not be installed. Their tests are skipped."
fi
