import {
  type Action,
  ActionSchema,
  ActionState,
  type ActionStep,
} from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { age, namesOf, plain } from './format.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

const actionState = namesOf(ActionState);

/** Words of `--state`. */
export const ACTION_STATES: Readonly<Record<string, ActionState>> = {
  dry_run: ActionState.DRY_RUN,
  awaiting_approval: ActionState.AWAITING_APPROVAL,
  pending: ActionState.PENDING,
  running: ActionState.RUNNING,
  done: ActionState.DONE,
  failed: ActionState.FAILED,
  cancelled: ActionState.CANCELLED,
  undoing: ActionState.UNDOING,
  undone: ActionState.UNDONE,
};

export interface ActionOptions {
  readonly state?: string;
  readonly node?: string;
  readonly limit?: number;
}

/** `gpufleet actions`. */
export async function actions(
  { alerting, output, now }: CommandContext,
  { state, node = '', limit = 100 }: ActionOptions,
): Promise<void> {
  const found = await allPages(async (page) => {
    const wanted = state === undefined ? ActionState.UNSPECIFIED : ACTION_STATES[state]!;
    const { actions: rows, nextPageToken } = await alerting.listActions({ ...page, node, state: wanted });
    return { rows, nextPageToken };
  }, limit);
  if (output.json) return writeJson(output, { actions: found.map((one) => jsonOf(ActionSchema, one)) });
  if (found.length === 0) return output.write('no actions\n');
  writeTable<Action>(
    output,
    [
      { title: 'ID', cell: ({ id }) => id },
      { title: 'STATE', cell: ({ state: is }) => actionState(is).replaceAll('_', ' ') },
      { title: 'NODE', cell: ({ node: name, gpu }) => (gpu === '' ? name : `${name}/${gpu}`) },
      { title: 'POLICY', cell: ({ policy }) => policy },
      { title: 'AGE', cell: ({ createdAt }) => age(createdAt, now()), align: 'right' },
      { title: 'STEPS', cell: ({ steps }) => steps.map(stepText).join(', ') },
      { title: 'WHY', cell: ({ why, reason }) => (why === '' ? reason : `${why} (${reason})`) },
    ],
    found,
  );
}

/** `gpufleet actions approve|reject|undo <id>`. */
export async function decide(
  { alerting, output }: CommandContext,
  decision: 'approve' | 'reject' | 'undo',
  id: string,
  comment: string,
): Promise<void> {
  const ask = { approve: 'approveAction', reject: 'rejectAction', undo: 'undoAction' } as const;
  const { action } = await alerting[ask[decision]]({ id, comment });
  if (output.json) return writeJson(output, { action: jsonOf(ActionSchema, action!) });
  output.write(`${plain(id)} is ${actionState(action!.state).replaceAll('_', ' ')}${because(action!)}\n`);
}

function because({ why }: Action): string {
  return why === '' ? '' : `: ${plain(why)}`;
}

function stepText({ kind, state }: ActionStep): string {
  return state === 'waiting' ? kind : `${kind} ${state}`;
}
