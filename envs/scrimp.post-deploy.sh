#!/bin/sh
# Snakemake runs this in the new environment, from the workspace's folder.
set -eu
python -m pip install -c envs/lock.txt -e '.[suite]'
