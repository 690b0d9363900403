#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=1-{jobs}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}M
#SBATCH --time={minutes}
#SBATCH --signal=B:USR1@{grace}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={logs}/%A_%a.log
{options}
{command} --share "$SLURM_ARRAY_TASK_ID"/{jobs} --workers "$SLURM_CPUS_PER_TASK" &
child=$!
for name in USR1 TERM INT; do trap "kill -$name $child 2>/dev/null" $name; done
wait $child
status=$?
while kill -0 $child 2>/dev/null; do
    wait $child
    status=$?
done
if [ $status -eq {stopped} ]; then  # its time was over, and it was saved: go on later
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit $status
