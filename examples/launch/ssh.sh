#!/bin/bash
# Machines that ssh reaches, one process on each; process 0 is on the first of them:
#
#   HOSTS="node1 node2" examples/launch/ssh.sh configs/cityscapes_fcn_r50_sdn.py /shared/runs/NAME
#
# FOLDER is the checkout, at the same path on all of them. Ctrl-C ends all, saved. The status is
# that of the first process that ended badly; 75 says: start it again.
set -u
hosts=($HOSTS) folder=${FOLDER:-$PWD} port=${PORT:-61000} python=${PYTHON:-python}
config=$1 workdir=$2
shift 2

started=()
for i in "${!hosts[@]}"; do
    # -tt passes Ctrl-C on to the process there.
    ssh -tt "${hosts[$i]}" "cd '$folder' && \
        JAX_COORDINATOR_ADDRESS='${hosts[0]}:$port' \
        JAX_NUM_PROCESSES=${#hosts[@]} JAX_PROCESS_ID=$i \
        $python train.py '$config' --workdir '$workdir' --resume --distributed $*" </dev/null &
    started+=($!)
done

status=0
trap : INT # the processes there get it too; wait for them
for process in "${started[@]}"; do
    wait "$process"
    ended=$?
    [ "$status" -eq 0 ] && status=$ended
done
exit "$status"
