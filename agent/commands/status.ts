import { type AgentStatus, type SourceStatus, troublesOf } from '../control/agent-status.ts';
import { AgentNotRunning, askAgent } from '../control/control-client.ts';
import { renderTable, wrap } from './table.ts';
import { plain, showAge, showBytes, showCount, showInterval, type Terminal, UNKNOWN } from './terminal.ts';

const DEGRADED = 1;
const NOT_RUNNING = 3;

/** What the running agent says of itself. Returns the exit code. */
export async function status(
  terminal: Terminal,
  { socket, json, timeoutMs }: { socket: string; json: boolean; timeoutMs: number },
): Promise<number> {
  let told: AgentStatus;
  try {
    told = await askAgent(socket, { command: 'status' }, timeoutMs);
  } catch (error) {
    if (!(error instanceof AgentNotRunning)) throw error;
    terminal.write(
      json ? `${JSON.stringify({ running: false, reason: error.message })}\n` : `${error.message}\n`,
    );
    return NOT_RUNNING;
  }
  const troubles = troublesOf(told);
  if (json) terminal.write(`${JSON.stringify({ running: true, troubles, ...told })}\n`);
  else terminal.write(renderStatus(told, troubles, terminal.columns));
  return troubles.length > 0 ? DEGRADED : 0;
}

/** For people, at most `columns` wide where words allow. */
export function renderStatus(told: AgentStatus, troubles: readonly string[], columns: number): string {
  const facts = factsOf(told).map(([name, text]) => [name, plain(text)]);
  const sources = renderTable(
    SOURCE_TITLES,
    told.sources.map((source) => sourceRow(source, told.now_ms)),
    columns,
  );
  const details = told.sources.flatMap((source) => detailsOf(source, columns));
  const rest =
    troubles.length === 0
      ? 'All is well.\n'
      : `Trouble:\n${troubles.flatMap((trouble) => indent(plain(trouble), columns)).join('')}`;
  return `${facts.map(([name, text]) => `${name!.padEnd(13)}${text}\n`).join('')}\n${sources}\n${details.join('')}\n${rest}`;
}

function factsOf(told: AgentStatus): [string, string][] {
  const { uplink, buffer, expected_gpus: expected, now_ms: now } = told;
  const lost = Object.values(told.lost_samples).reduce((sum, count) => sum + count, 0);
  const skew = uplink.clock_skew_ms;
  const oldest = uplink.oldest_not_durable_ms;
  return [
    ['Agent', `gpufleet-agent ${told.version}, process ${told.pid}, up ${showAge(now - told.started_ms)}`],
    ['Node', `${told.node} in cluster ${told.cluster}, run ${told.run.slice(0, 8)}`],
    ...(told.paused_until_ms === null
      ? []
      : ([['Paused', `for another ${showAge(told.paused_until_ms - now)}`]] as [string, string][])),
    ['GPUs', `${told.gpus} of ${expected.count ?? 'an unknown number'} (${expected.from})`],
    ['Aggregator', `${uplink.connected ? 'connected to' : 'not connected:'} ${uplink.aggregator || UNKNOWN}`],
    [
      'Pending',
      `${showCount(uplink.pending_records)} records, about ${showCount(uplink.pending_samples)} samples`,
    ],
    ['Not durable', oldest === null ? 'nothing' : `since ${showAge(now - oldest)}`],
    [
      'Buffer',
      `${showBytes(buffer.bytes)} of ${showBytes(buffer.max_bytes)}${buffer.writable ? '' : ', NOT WRITABLE'}`,
    ],
    ['Lost', lost === 0 ? 'nothing' : `${showCount(lost)} samples`],
    ['Clock skew', skew === null ? UNKNOWN : `${skew} ms against the aggregator`],
  ];
}

const SOURCE_TITLES = [
  'SOURCE',
  'STATE',
  'EVERY',
  'LAST',
  'SERIES',
  'ABSENT',
  'REJECTED',
  'FAILED',
  'MISSED',
];

function sourceRow(source: SourceStatus, nowMs: number): string[] {
  const { name, state, last_read_ms: lastRead, series, failures, missed_ticks: missed } = source;
  const rejected = Object.values(source.rejected).reduce((sum, count) => sum + count, 0);
  return [
    plain(name),
    state,
    showInterval(source.interval_ms),
    lastRead === null ? UNKNOWN : showAge(nowMs - lastRead),
    String(series),
    String(series - (source.slots.present ?? 0)),
    String(rejected),
    String(failures),
    String(missed),
  ];
}

/** Under the table: what it is, and where there is more to say of it. */
function detailsOf({ name, what, reason, slots, rejected }: SourceStatus, columns: number): string[] {
  const absent = Object.entries(slots).filter(([state, count]) => state !== 'present' && count > 0);
  const parts = [
    plain(what),
    ...(reason === '' ? [] : [plain(reason)]),
    ...(absent.length === 0 ? [] : [`without a value: ${listOf(absent)}`]),
    ...(Object.keys(rejected).length === 0 ? [] : [`rejected: ${listOf(Object.entries(rejected))}`]),
  ];
  return indent(`${plain(name)}: ${parts.join('; ')}`, columns);
}

function listOf(counts: readonly [string, number][]): string {
  return counts.map(([what, count]) => `${count} ${what.replaceAll('_', ' ')}`).join(', ');
}

function indent(text: string, columns: number): string[] {
  return wrap(text, columns - 4).map((line, index) => `${index === 0 ? '  ' : '    '}${line}\n`);
}
