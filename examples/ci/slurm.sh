#!/usr/bin/env bash
# One gate on four nodes of four GPUs: sbatch slurm.sh. Cancelled or out of time, the same command goes on.
#SBATCH --job-name=unlearning-gates
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
set -euo pipefail

port=6379
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  ray start --head --node-ip-address="$address" --port="$port" --disable-usage-stats --block &
sleep 20
if ((SLURM_NNODES > 1)); then
  srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" --overlap \
    ray start --address="$address:$port" --block &
  sleep 20
fi

# Model, base and store lie where every node sees them under the same path.
export RAY_ADDRESS="$address:$port"
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  python -m pytest gates --unlearndiff-workers=ray --unlearndiff-device=cuda --unlearndiff-time-budget=7h30m \
  --unlearndiff-model=/shared/models/release.safetensors --unlearndiff-base=/shared/models/base
