import {
  type Anomaly,
  AnomalySchema,
  InjectAnomalyResponseSchema,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { age, plain } from './format.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

export interface AnomalyOptions {
  readonly node?: string;
  readonly gpu?: string;
  readonly all?: boolean;
  readonly limit?: number;
}

/** `gpufleet anomalies`: what is unusual about GPUs. */
export async function anomalies(
  { health, output, now }: CommandContext,
  { node = '', gpu = '', all = false, limit }: AnomalyOptions,
): Promise<void> {
  const found = await allPages(async (page) => {
    const answer = await health.listAnomalies({ ...page, node, gpuUuid: gpu, includeEnded: all });
    return { rows: answer.anomalies, nextPageToken: answer.nextPageToken };
  }, limit);
  if (output.json) return writeJson(output, { anomalies: found.map((one) => jsonOf(AnomalySchema, one)) });
  if (found.length === 0) return output.write('nothing is unusual\n');
  writeTable<Anomaly>(
    output,
    [
      { title: 'SINCE', cell: ({ startedAt }) => `${age(startedAt, now())} ago` },
      { title: 'GPU', cell: ({ node: name, gpu: index }) => `${name}/${index}` },
      { title: 'STATE', cell: ({ endedAt }) => (endedAt === undefined ? 'open' : 'over') },
      { title: 'STRENGTH', cell: ({ strength }) => strength.toFixed(1), align: 'right' },
      {
        title: 'WHAT',
        cell: ({ test, text }) => (test && !/^test\b/i.test(text) ? `Test: ${text}` : text),
      },
    ],
    found,
  );
}

export interface InjectOptions {
  readonly metric: string;
  readonly strength: number;
  readonly seconds: number;
}

/** `gpufleet inject`: a test anomaly on a GPU. */
export async function inject(
  { health, output }: CommandContext,
  which: string,
  { metric, strength, seconds }: InjectOptions,
): Promise<void> {
  const slash = which.lastIndexOf('/');
  const gpu = slash < 0 ? { uuid: which } : { node: which.slice(0, slash), gpu: which.slice(slash + 1) };
  const answer = await health.injectAnomaly({ ...gpu, metric, strength, seconds });
  if (output.json) return writeJson(output, jsonOf(InjectAnomalyResponseSchema, answer));
  const { anomaly } = answer;
  output.write(
    `test anomaly on ${plain(anomaly!.node)}/${plain(anomaly!.gpu)}, for ${seconds} s: look for it in \`gpufleet anomalies\`, on NATS and wherever your alerts go\n`,
  );
}
