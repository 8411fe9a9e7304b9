import { timestampMs } from '@bufbuild/protobuf/wkt';
import { expect, it } from 'vitest';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { ActionState } from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { actionMessage, stateOf } from '../../../../aggregator/alerts/actions/action-message.ts';
import { until } from '../../../support/wait.ts';
import { criticalAlert, policyFile, ScriptedFeed, startActions } from './fleet-of-actions.ts';
import { MemoryBucket } from './memory-control.ts';
import { RecordingMachines } from './recording-machines.ts';

it('tells a client what an action waits for, and of whom', async () => {
  const feed = new ScriptedFeed();
  const nowMs = Date.now();
  feed.say(criticalAlert('n1', nowMs));
  const file = policyFile(['approval: required']);
  await using opened = await startActions(file, new RecordingMachines(), new MemoryBucket().client(), {
    feed,
  });
  const state = stateOf(ActionState.AWAITING_APPROVAL)!;
  await until(() => opened.actions.list({ state }).length > 0, { timeoutMs: 20_000, what: 'it asks' });
  const message = actionMessage(opened.actions.list({ state })[0]!);
  expect(message).toMatchObject({
    policy: 'drain-critical',
    state: ActionState.AWAITING_APPROVAL,
    cluster: 'east',
    node: 'n1',
    pool: 'a100',
    rule: 'gpu-critical',
    severity: Severity.CRITICAL,
    why: 'waits for the approval of an operator',
    steps: [{ kind: 'drain', state: 'waiting', attempts: 0 }],
  });
  expect(timestampMs(message.nextAt!)).toBeGreaterThan(nowMs + 23 * 3_600_000);
  expect(stateOf(ActionState.UNSPECIFIED)).toBeUndefined();
});
