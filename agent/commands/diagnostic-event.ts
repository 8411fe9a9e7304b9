import { open } from 'node:fs/promises';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { askAgent } from '../control/control-client.ts';
import { type GpuResult, readDcgmDiagnostic } from './dcgm-diagnostic.ts';
import { plain, type Terminal } from './terminal.ts';

export interface DiagnosticOptions {
  readonly socket: string;
  readonly timeoutMs: number;
  /** `dcgmi`, `nccl`, `burn-in`. */
  readonly source: string;
  /** Not needed where a file says it. */
  readonly result: 'pass' | 'fail' | undefined;
  /** Index, UUID, or `all`. */
  readonly gpu: string;
  readonly test: string | undefined;
  /** The output of `dcgmi diag -j`; for other sources any text, whose end goes with the event. */
  readonly file: string | undefined;
}

/** A diagnostic's output of 16 GPUs is some 100 KB. */
const MAX_FILE_BYTES = 4 * 2 ** 20;
/** Of a file that is not DCGM's: a summary stands at the end. */
const EXCERPT_CHARACTERS = 2_000;

/** Hands a diagnostic's result to the running agent: an event for each GPU. */
export async function diagnostic(terminal: Terminal, options: DiagnosticOptions): Promise<number> {
  const { socket, timeoutMs, source } = options;
  for (const result of await resultsOf(options)) {
    const event = eventOf(result, source, terminal.clock.now());
    await askAgent(socket, { command: 'event', event }, timeoutMs);
    terminal.write(`${plain(event.text.split('\n', 1)[0]!)}\n`);
  }
  return 0;
}

async function resultsOf({ source, file, result, gpu, test }: DiagnosticOptions): Promise<GpuResult[]> {
  const text = file === undefined ? '' : await readBounded(file);
  if (source === 'dcgmi' && file !== undefined) {
    const results = readDcgmDiagnostic(text);
    const asked = gpu === 'all' ? results : results.filter((one) => one.gpu === gpu || one.gpu === '');
    if (asked.length === 0)
      throw new FleetError('invalid_input', `Cannot use ${file}: it has no result of GPU ${gpu}`);
    if (result !== undefined && asked.some((one) => one.result !== result))
      throw new FleetError(
        'invalid_input',
        `Cannot use ${file}: it does not say ${result} for every GPU; leave --result away`,
      );
    return asked;
  }
  if (result === undefined)
    throw new FleetError(
      'invalid_input',
      'Cannot tell the result: give --result, or with --source dcgmi a --file',
    );
  const tests = test === undefined ? [] : [test];
  return [{ gpu: gpu === 'all' ? '' : gpu, result, tests, detail: text.slice(-EXCERPT_CHARACTERS) }];
}

function eventOf(
  { gpu, result, tests, detail }: GpuResult,
  source: string,
  timestampMs: number,
): DiagnosticEvent {
  const isUuid = /^(GPU|MIG)-/.test(gpu) || (gpu.includes('-') && gpu.length > 8);
  const named = tests.join(', ').slice(0, 500);
  const what = `${source}${named === '' ? '' : ` (${named})`}`;
  const text = `${gpu === '' ? 'All GPUs' : `GPU ${gpu}`}: ${what} ${result === 'pass' ? 'passed' : 'failed'}`;
  return {
    type: 'diagnostic',
    timestampMs,
    gpu: isUuid ? '' : gpu,
    gpuUuid: isUuid ? gpu : '',
    text: detail === '' ? text : `${text}\n${detail}`,
    attributes: { result, source, gpu: gpu || 'all', ...(named !== '' && { test: named }) },
  };
}

type DiagnosticEvent = Omit<FleetEvent, 'type' | 'attributes'> & {
  readonly type: 'diagnostic';
  readonly attributes: Record<string, string>;
};

/** `-` is standard input. */
async function readBounded(file: string): Promise<string> {
  const path = file === '-' ? '/dev/stdin' : file;
  try {
    await using handle = await open(path);
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of handle.createReadStream({ autoClose: false })) {
      size += (chunk as Buffer).length;
      if (size > MAX_FILE_BYTES) throw new Error(`it is larger than ${MAX_FILE_BYTES} bytes`);
      chunks.push(chunk as Buffer);
    }
    return Buffer.concat(chunks).toString('utf8');
  } catch (error) {
    throw new FleetError('invalid_input', `Cannot read ${file}`, { cause: error });
  }
}
