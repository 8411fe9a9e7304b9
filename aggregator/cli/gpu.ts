import {
  GetGpuResponseSchema,
  type Gpu,
  type LatestSample,
  SampleState,
} from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import type { DimensionScore, GpuHealth, HealthContribution } from '#proto/gpufleet/health/v1/health_pb.ts';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  age,
  healthColour,
  healthDimension,
  healthState,
  labelText,
  memory,
  number,
  percent,
  plain,
  power,
  sampleState,
  UNKNOWN,
} from './format.ts';
import { type CommandContext, jsonOf, type Output, widthOf, writeJson, writeTable } from './output.ts';
import { wrapText } from './table.ts';

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
  const heading = plain(`${found.node}/${found.index}  ${found.model}  ${found.uuid}`);
  output.write(
    [
      output.paint('bold', heading),
      ...(facts.length > 0 ? wrapText(plain(facts.join(' ')), widthOf(output)) : []),
      stateLine(health, output.paint, now()),
      ...(health === undefined ? [] : healthLines(health)).flatMap((line) => broken(output, line)),
      valueLine(found, now()),
      '\n',
    ].join('\n'),
  );
  writeTable<LatestSample>(
    output,
    [
      {
        title: 'VALUE',
        cell: ({ state, value }) => (state === SampleState.PRESENT ? String(value) : sampleState(state)),
        align: 'right',
      },
      { title: 'SERIES', cell: ({ name, labels }) => `${name}${labelText(restOf(labels, found.labels))}` },
    ],
    answer.samples,
  );
}

function stateLine(
  health: GpuHealth | undefined,
  paint: CommandContext['output']['paint'],
  nowMs: number,
): string {
  if (health === undefined) return 'health unknown';
  const { state, flapping, stateSince } = health;
  const known = state !== HealthState.UNKNOWN && !Number.isNaN(health.score);
  const words = [
    paint(healthColour(state), `${known ? health.score.toFixed(1) : UNKNOWN} ${healthState(state)}`),
    ...(stateSince === undefined ? [] : [`for ${age(stateSince, nowMs)}`]),
    ...(flapping ? ['held: it changed too often within a day'] : []),
  ];
  return `health ${words.join(', ')}`;
}

function healthLines(health: GpuHealth): string[] {
  const { contributions, dimensions, confidence, lowestScore, profile, profileVersion, owesClearing } =
    health;
  const lowest =
    confidence < 1 && !Number.isNaN(lowestScore)
      ? `, lowest score ${lowestScore.toFixed(1)} if the rest is at its worst`
      : '';
  return [
    ...(owesClearing ? ['critical until a passed check, a repair or `gpufleet clear`'] : []),
    ...contributions.map(contributionLine),
    ...(dimensions.length > 0 ? [dimensions.map(dimensionText).join(', ')] : []),
    `confidence ${percent(confidence)} %${lowest}, profile ${plain(profile) || UNKNOWN} version ${plain(profileVersion) || UNKNOWN}`,
  ];
}

/** A line below the state, with what does not fit on it below that. */
function broken(output: Output, line: string): string[] {
  const [first = '', ...more] = wrapText(line, widthOf(output) - 9);
  return [`  ${first}`, ...more.map((text) => `         ${text}`)];
}

function contributionLine({ points, dimension, explanation, source }: HealthContribution): string {
  const from = source === '' || explanation.includes(source) ? '' : ` (${source})`;
  return `-${points.toFixed(1)}  ${healthDimension(dimension)}: ${plain(explanation + from)}`;
}

/** `thermal 87`, `power 100 (60 % known)`, `memory -` where nothing is known. */
function dimensionText({ dimension, score, coverage }: DimensionScore): string {
  const name = healthDimension(dimension);
  if (coverage === 0) return `${name} ${UNKNOWN}`;
  return `${name} ${score.toFixed(0)}${coverage < 1 ? ` (${percent(coverage)} % known)` : ''}`;
}

function valueLine(found: Gpu, nowMs: number): string {
  const alerts = found.firingAlerts === 1 ? '1 alert' : `${found.firingAlerts} alerts`;
  return `${number(found.temperatureCelsius)} °C, ${power(found)} W, ${percent(found.utilizationRatio)} % busy, ${memory(found)} GiB, ${alerts} firing, read ${age(found.lastSampleAt, nowMs)} ago`;
}

/** Labels that tell a series apart: neither those of the heading nor those of every series of the GPU. */
function restOf(
  labels: Readonly<Record<string, string>>,
  said: Readonly<Record<string, string>>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels).filter(([name, value]) => !SAID.has(name) && said[name] !== value),
  );
}
