import type { Job } from './workload.ts';

/** Who uses the GPUs, as the labels of gpu_job_info. */
export interface JobLabels {
  readonly job: string;
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly user: string;
}

const USERS = ['ada', 'grace', 'alan'];

/** The same job and node give the same labels. */
export function jobLabels(job: Job | undefined, node: string): JobLabels | undefined {
  if (!job) return undefined;
  const name = `train-${String(job.number).padStart(4, '0')}`;
  return {
    job: name,
    namespace: 'research',
    pod: `${name}-${node}`,
    container: 'trainer',
    user: USERS[job.number % USERS.length]!,
  };
}
