#!/bin/bash
# All hosts of a Cloud TPU pod slice. JAX knows there which process each of them is:
#
#   TPU=my-v5e-32 ZONE=us-west4-a examples/launch/tpu.sh configs/cityscapes_fcn_r50_sdn.py \
#       gs://bucket/runs/NAME [options]
#
# Beforehand, once, on all of them (the same command with another --command):
#   git clone …, pip install '.[tpu,gcs]'
# FOLDER is the checkout there, from the home folder.
set -u
folder=${FOLDER:-sdnjax}
config=$1 workdir=$2
shift 2

gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
    --command="cd '$folder' && python3 train.py '$config' --workdir '$workdir' --resume --distributed $*"
