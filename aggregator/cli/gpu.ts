import { GetGpuResponseSchema, type LatestSample, SampleState } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import {
  age,
  healthColour,
  healthDimension,
  healthState,
  memory,
  number,
  percent,
  power,
  sampleState,
  score,
} from './format.ts';
import { type CommandContext, jsonOf, writeJson } from './output.ts';
import { renderTable } from './table.ts';

/** Labels that the heading has already said. */
const SAID = new Set(['cluster', 'node', 'gpu', 'uuid', 'model']);

/** `gpufleet gpu <uuid | node/index>`: its health with the reasons, and the newest value of each of its series. */
export async function gpu({ client, output, now }: CommandContext, which: string): Promise<void> {
  const slash = which.lastIndexOf('/');
  const answer = await client.getGpu(
    slash < 0 ? { uuid: which } : { node: which.slice(0, slash), index: which.slice(slash + 1) },
  );
  if (output.json) return writeJson(output, jsonOf(GetGpuResponseSchema, answer));
  const found = answer.gpu!;
  const { health } = found;
  const facts = Object.entries(found.labels).map(([name, value]) => `${name}=${value}`);
  output.write(
    [
      output.paint('bold', `${found.node}/${found.index}  ${found.model}  ${found.uuid}`),
      ...(facts.length > 0 ? [facts.join(' ')] : []),
      `health ${output.paint(healthColour(health?.state), `${score(found)} ${healthState(health?.state)}`)}, ${percent(health?.coverage)} % of the signals known`,
      ...(health?.contributions ?? []).map(
        ({ points, dimension, explanation }) =>
          `  -${points.toFixed(1)}  ${healthDimension(dimension)}: ${explanation}`,
      ),
      `${number(found.temperatureCelsius)} °C, ${power(found)} W, ${percent(found.utilizationRatio)} % busy, ${memory(found)} GiB, ${found.firingAlerts} alerts firing, read ${age(found.lastSampleAt, now())} ago`,
      '',
      renderTable<LatestSample>(
        [
          { title: 'SERIES', cell: ({ name, labels }) => `${name}${labelText(labels)}` },
          {
            title: 'VALUE',
            cell: ({ state, value }) => (state === SampleState.PRESENT ? String(value) : sampleState(state)),
            align: 'right',
          },
        ],
        answer.samples,
      ),
    ].join('\n'),
  );
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const rest = Object.entries(labels).filter(([name]) => !SAID.has(name));
  return rest.length === 0 ? '' : `{${rest.map(([name, value]) => `${name}="${value}"`).join(',')}}`;
}
