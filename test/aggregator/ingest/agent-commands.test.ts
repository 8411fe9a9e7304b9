import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import {
  CommandOutcome,
  type CommandRequest,
  CommandResultSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { AgentCommands } from '../../../aggregator/ingest/agent-commands.ts';

function commandsOf(...names: string[]) {
  const sent: CommandRequest[] = [];
  const commands = new AgentCommands(names, (request) => sent.push(request));
  const answer = (id: string, outcome: CommandOutcome, status = -1, output = ''): void =>
    commands.answer(create(CommandResultSchema, { id, outcome, status, output }));
  return { sent, commands, answer };
}

const order = (id: string) => ({ id, name: 'reset-gpu', args: { gpu: '3' } });
const never = new AbortController().signal;

test('the result is that of its own id, and its output is bounded', async () => {
  const { sent, commands, answer } = commandsOf('reset-gpu');
  const [one, two] = [commands.ask(order('s1'), never), commands.ask(order('s2'), never)];
  expect(sent).toMatchObject([{ id: 's1', name: 'reset-gpu', arguments: { gpu: '3' } }, { id: 's2' }]);
  answer('nobody', CommandOutcome.SUCCEEDED, 0);
  answer('s2', CommandOutcome.FAILED, 2, 'x'.repeat(20_000));
  answer('s1', CommandOutcome.RUNNING);
  answer('s1', CommandOutcome.SUCCEEDED, 0, 'ok');
  expect(await one).toEqual({ outcome: 'succeeded', status: 0, output: 'ok' });
  expect(await two).toEqual({ outcome: 'failed', status: 2, output: 'x'.repeat(8_192) });
});

// Lost without it: a step waits for ever on an agent of an earlier version, which does not know the message.
test('an agent that names no commands is not asked', async () => {
  const { sent, commands } = commandsOf();
  expect(await commands.ask(order('s1'), never)).toMatchObject({ outcome: 'refused' });
  expect(sent).toEqual([]);
});

// Lost without it: one that runs is taken for one that did not begin, or the other way round.
test.each([
  [true, 'running'],
  [false, 'away'],
])(
  'at the deadline, and at the end of the stream, one that has begun (%s) is %s',
  async (hasBegun, outcome) => {
    const { commands, answer } = commandsOf('reset-gpu');
    const deadline = new AbortController();
    const [late, cut] = [commands.ask(order('s1'), deadline.signal), commands.ask(order('s2'), never)];
    if (hasBegun) for (const id of ['s1', 's2']) answer(id, CommandOutcome.RUNNING);
    deadline.abort();
    expect(await late).toMatchObject({ outcome });
    commands.close();
    expect(await cut).toMatchObject({ outcome });
  },
);

test('so many wait for one agent, and no more; one id waits once', async () => {
  const { sent, commands } = commandsOf('reset-gpu');
  const waiting = Array.from({ length: 16 }, (_, i) => commands.ask(order(`s${i}`), never));
  expect(await commands.ask(order('s0'), never)).toMatchObject({ outcome: 'busy' });
  expect(await commands.ask(order('s16'), never)).toMatchObject({ outcome: 'busy' });
  expect(sent).toHaveLength(16);
  commands.close();
  await Promise.all(waiting);
  void commands.ask(order('s17'), never);
  expect(sent).toHaveLength(17);
});

test('an outcome of a later version is not taken for one of ours', async () => {
  const { commands, answer } = commandsOf('reset-gpu');
  const deadline = new AbortController();
  const asked = commands.ask(order('s1'), deadline.signal);
  answer('s1', 99 as CommandOutcome, 0);
  deadline.abort();
  expect(await asked).toMatchObject({ outcome: 'away' });
});
