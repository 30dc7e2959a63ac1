#!/usr/bin/env bash
# A SLURM of this machine alone, for `SCRIMP_SLURM=1 pytest tests/workflow/test_clusters.py`: Debian or Ubuntu, as root, in a
# container or a machine of its own, since it writes /etc/slurm. It says that there are three cards, which no job here looks for.
set -euo pipefail

apt-get install -y -qq slurm-wlm munge >/dev/null
host=$(hostname -s)
mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm /run/munge
touch /run/card-0 /run/card-1 /run/card-2
echo "Name=gpu File=/run/card-[0-2]" > /etc/slurm/gres.conf
# Jobs find the file in this place alone: the executor plugin does not hand SLURM_CONF on.
cat > /etc/slurm/slurm.conf <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=200000 Gres=gpu:3 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
chown munge: /run/munge
pgrep -x munged >/dev/null || setpriv --reuid=munge --regid=munge --clear-groups munged
pgrep -x slurmctld >/dev/null || slurmctld
sleep 2
pgrep -x slurmd >/dev/null || slurmd
sleep 2
srun --time 1 true
sinfo
