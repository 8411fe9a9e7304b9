import {
  ListPatternsResponseSchema,
  ListRejectedSamplesResponseSchema,
  type Pattern,
  type RejectedSample,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { labelText, plain, UNKNOWN } from './format.ts';
import { timeText } from './losses.ts';
import { type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

/** `gpufleet patterns`: what repeats, drifts, or goes together. */
export async function patterns({ health, output }: CommandContext, kind: string): Promise<void> {
  const answer = await health.listPatterns({ kind });
  if (output.json) return writeJson(output, jsonOf(ListPatternsResponseSchema, answer));
  if (answer.patterns.length === 0) return output.write('no pattern stands out\n');
  writeTable<Pattern>(
    output,
    [
      { title: 'KIND', cell: (one) => one.kind },
      { title: 'SINCE', cell: ({ since }) => timeText(since) },
      { title: 'SURE', cell: ({ confidence }) => `${Math.round(confidence * 100)} %`, align: 'right' },
      { title: 'WHAT', cell: ({ sentence }) => sentence },
    ],
    answer.patterns,
  );
}

/** `gpufleet rejected`: samples that cannot be true. */
export async function rejected({ health, output }: CommandContext, node: string): Promise<void> {
  const answer = await health.listRejectedSamples({ node });
  if (output.json) return writeJson(output, jsonOf(ListRejectedSamplesResponseSchema, answer));
  if (answer.samples.length === 0) output.write('nothing was rejected\n');
  else
    writeTable<RejectedSample>(
      output,
      [
        { title: 'TIME', cell: ({ time }) => timeText(time) },
        { title: 'NODE', cell: ({ node: name }) => name },
        { title: 'COUNT', cell: ({ count }) => String(count), align: 'right' },
        { title: 'VALUE', cell: ({ value }) => value?.toString() ?? UNKNOWN, align: 'right' },
        { title: 'REASON', cell: ({ reason }) => reason },
        {
          title: 'SERIES',
          cell: ({ metric, labels }) => `${metric || 'the whole tick'}${labelText(labels)}`,
        },
      ],
      answer.samples,
    );
  const totals = Object.entries(answer.totals).filter(([, count]) => count > 0n);
  if (totals.length === 0) return;
  const counts = totals.map(([reason, count]) => `${count} ${plain(reason)}`).join(', ');
  output.write(`of all nodes, since the start: ${counts}\n`);
}
