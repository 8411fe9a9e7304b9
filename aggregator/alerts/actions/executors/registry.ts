import { checkpointKind } from './checkpoint.ts';
import { commandKind } from './command.ts';
import type { ExecutorKind } from './executor-kind.ts';
import { kubernetesKind } from './kubernetes.ts';
import { markKind } from './mark.ts';
import { slurmKind } from './slurm.ts';
import { webhookKind } from './webhook.ts';

/** Every kind of step that a policy may name. */
export const EXECUTOR_KINDS: Readonly<Record<string, ExecutorKind>> = {
  mark: markKind,
  checkpoint: checkpointKind,
  slurm: slurmKind,
  kubernetes: kubernetesKind,
  webhook: webhookKind,
  command: commandKind,
};
