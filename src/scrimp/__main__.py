"""`python -m scrimp` is `scrimp`; `torchrun --nproc-per-node 2 -m scrimp run ...` starts it once a GPU."""

from scrimp.cli import main

main()
