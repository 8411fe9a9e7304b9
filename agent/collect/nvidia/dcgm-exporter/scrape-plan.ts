import { type DcgmField, type DcgmWidth, dcgmField } from '#shared/catalogue/dcgm.ts';
import type { Metric } from '#shared/catalogue/metric.ts';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import type { Labels, Series } from '#shared/model/dictionary.ts';
import { MAX_LABELS, seriesFault } from '#shared/wire/dictionary.ts';
import type { Exposition, Family, SampleHead } from '../../prometheus/exposition.ts';
import { type GpuLabels, sortOutLabels } from './gpu-labels.ts';
import { LabelScope } from './label-scope.ts';

/** Names and labels to write: the catalogue's, the exporter's own, or both. */
export type Naming = 'canonical' | 'dcgm' | 'both';

/** A GPU that the exporter names. */
export interface Gpu {
  /** Its UUID, or its index where no line of it has one. */
  readonly key: string;
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
}

/** What becomes of one sample line. */
export interface Route {
  readonly head: SampleHead;
  readonly field: DcgmField | undefined;
  /** Undefined where no value is a blank: the series is not DCGM's. */
  readonly blank: DcgmWidth | undefined;
  readonly gpu: Gpu | undefined;
  /** MIG instance, empty for a whole GPU. */
  readonly migId: string;
  /** Index in the plan's series of the series under the catalogue's name, or -1. */
  readonly canonical: number;
  /** The same under the exporter's name. */
  readonly asGiven: number;
  /** A series of it broke a limit of labels. */
  readonly refused: boolean;
}

/** What an exposition's lines become: made anew whenever they change. */
export interface ScrapePlan {
  /** The collector's own, then canonical, then *_info, then what passes through: a limit cuts from the end. */
  readonly series: readonly Series[];
  readonly routes: readonly Route[];
  /** Indices in `series` whose value is always 1. */
  readonly infos: readonly number[];
  /** In order of appearance. */
  readonly gpus: readonly Gpu[];
  /** Labels of *_info series that broke a limit and were left out. */
  readonly refusedLabels: number;
}

/**
 * Plans what to do with each line.
 *
 * - A field of the catalogue on a GPU becomes its canonical series: labels gpu, uuid, model, mig_id, mig_profile
 *   and the catalogue's. What else its labels say of the GPU goes to `gpu_info`, what they say of its user to
 *   `gpu_job_info`; unknown labels go to the one or the other by whether the line names a user. A label that does
 *   not have the same value on all lines of that GPU or user stays on the series. So no label is lost, and a new
 *   job makes no new series but its own `gpu_job_info`.
 * - A field of the catalogue on an NVSwitch gets the canonical name and keeps its labels.
 * - Everything else passes through with its own name and labels: unknown metrics, and fields that name no GPU.
 * - Naming `dcgm` passes everything through.
 */
export function planScrape(exposition: Exposition, naming: Naming, own: readonly Series[]): ScrapePlan {
  const lines = exposition.heads.map(sortOut);
  const gpus = gpusOf(lines);
  const series = [...own];
  const add = (one: Series): number => (seriesFault(one) === undefined ? series.push(one) - 1 : REFUSED);
  const canonical = new Map<Line, number>();
  const infos: number[] = [];
  let refusedLabels = 0;
  if (naming !== 'dcgm') {
    const { ofLine, all } = scopesOf(lines, gpus);
    for (const line of lines) {
      const one = canonicalSeries(line, gpus, ofLine.get(line));
      if (one) canonical.set(line, add(one));
    }
    for (const { metric, scope } of all) {
      const { info, refused } = infoSeries(metric, [...scope.identity, ...scope.facts]);
      infos.push(add(info));
      refusedLabels += refused;
    }
  }
  const routes = lines.map((line): Route => {
    const { head, field, labels } = line;
    const mapped = canonical.get(line) ?? NONE;
    const wanted = mapped === NONE || naming === 'both';
    const given = wanted ? add(seriesAsGiven(head, exposition.families.get(head.name))) : NONE;
    return {
      head,
      field,
      blank: field?.width ?? (head.name.startsWith('DCGM_') ? 'unknown' : undefined),
      gpu: labels && gpus.of(labels),
      migId: labels?.migId ?? '',
      canonical: Math.max(mapped, NONE),
      asGiven: Math.max(given, NONE),
      refused: mapped === REFUSED || given === REFUSED,
    };
  });
  return { series, routes, infos: infos.filter((index) => index >= 0), gpus: gpus.all, refusedLabels };
}

const NONE = -1;
const REFUSED = -2;

interface Line {
  readonly head: SampleHead;
  readonly field: DcgmField | undefined;
  /** Only where the line may be about a GPU. */
  readonly labels: GpuLabels | undefined;
}

function sortOut(head: SampleHead): Line {
  const field = dcgmField(head.name);
  const labels = field?.entity === 'gpu' ? sortOutLabels(head.labels, field.labelsFrom) : undefined;
  const names = labels !== undefined && (labels.gpu !== '' || labels.uuid !== '');
  return { head, field, labels: names ? labels : undefined };
}

interface Gpus {
  readonly all: readonly Gpu[];
  readonly of: (labels: GpuLabels) => Gpu | undefined;
}

/** A line without UUID belongs to the GPU of its index, if there is one such; parts that one line lacks come from others. */
function gpusOf(lines: readonly Line[]): Gpus {
  const uuids = new Map<string, string | undefined>();
  for (const { labels } of lines) {
    if (!labels?.gpu || !labels.uuid) continue;
    const known = uuids.get(labels.gpu);
    uuids.set(labels.gpu, uuids.has(labels.gpu) && known !== labels.uuid ? undefined : labels.uuid);
  }
  const uuidOf = (labels: GpuLabels): string => labels.uuid || uuids.get(labels.gpu) || '';
  const byKey = new Map<string, Gpu>();
  for (const { labels } of lines) {
    if (!labels) continue;
    const uuid = uuidOf(labels);
    const key = uuid || labels.gpu;
    const { gpu = '', model = '' } = byKey.get(key) ?? {};
    byKey.set(key, { key, uuid, gpu: gpu || labels.gpu, model: model || labels.model });
  }
  return { all: [...byKey.values()], of: (labels) => byKey.get(uuidOf(labels) || labels.gpu) };
}

interface LineScopes {
  readonly ofGpu: LabelScope;
  /** The user's, where the line names one; else the GPU's. */
  readonly ofUser: LabelScope;
}

interface Scopes {
  readonly ofLine: ReadonlyMap<Line, LineScopes>;
  readonly all: readonly { readonly metric: string; readonly scope: LabelScope }[];
}

function scopesOf(lines: readonly Line[], gpus: Gpus): Scopes {
  const byKey = new Map<string, { metric: string; scope: LabelScope }>();
  const scopeOf = (metric: string, identity: Labels): LabelScope => {
    const key = JSON.stringify([metric, identity]);
    const known = byKey.get(key) ?? { metric, scope: new LabelScope(identity) };
    byKey.set(key, known);
    return known.scope;
  };
  const ofLine = new Map<Line, LineScopes>();
  for (const line of lines) {
    const { labels } = line;
    const gpu = labels && gpus.of(labels);
    if (!labels || !gpu) continue;
    const ofGpu = scopeOf('gpu_info', [...identityOf(gpu), ['vendor', 'nvidia']]);
    const user = [...identityOf(gpu), ...migOf(labels), ...labels.job];
    const ofUser = labels.job.length > 0 ? scopeOf('gpu_job_info', user) : ofGpu;
    ofGpu.add(labels.facts);
    ofUser.add(labels.others);
    ofLine.set(line, { ofGpu, ofUser });
  }
  return { ofLine, all: [...byKey.values()] };
}

function canonicalSeries(
  { head, field, labels }: Line,
  gpus: Gpus,
  scopes: LineScopes | undefined,
): Series | undefined {
  if (field?.entity === 'switch') return seriesOf(field.metric, head.labels);
  const gpu = labels && gpus.of(labels);
  if (!field || !gpu || !scopes) return undefined;
  const claimed = head.labels.flatMap(([name, value]): Labels => {
    const ours = field.labelsFrom.get(name);
    return ours === undefined ? [] : [[ours, value]];
  });
  return seriesOf(field.metric, [
    ...identityOf(gpu),
    ...migOf(labels),
    ...field.labels,
    ...claimed,
    ...scopes.ofGpu.varying(labels.facts),
    ...scopes.ofUser.varying(labels.others),
  ]);
}

/** An info series keeps what fits: one label that is too long does not cost all the others. */
function infoSeries(name: string, labels: Labels): { info: Series; refused: number } {
  const metric = metricNamed(name)!;
  const said = labels.filter(([, value]) => value !== '');
  const fitting = said
    .filter((label) => seriesFault(seriesOf(metric, [label])) === undefined)
    .slice(0, MAX_LABELS);
  return { info: seriesOf(metric, fitting), refused: said.length - fitting.length };
}

function seriesAsGiven({ name, labels, decimals }: SampleHead, family: Family | undefined): Series {
  const kind = family?.type === 'counter' ? 'counter' : 'gauge';
  return {
    name,
    labels: distinct(labels),
    kind,
    decimals,
    help: family?.help ?? '',
    unit: family?.unit ?? '',
  };
}

function seriesOf({ name, kind, decimals, help, unit }: Metric, labels: Labels): Series {
  return { name, labels: distinct(labels), kind, decimals, help, unit };
}

function identityOf({ gpu, uuid, model }: Gpu): Labels {
  return [
    ['gpu', gpu],
    ['uuid', uuid],
    ['model', model],
  ];
}

function migOf({ migId, migProfile }: GpuLabels): Labels {
  return [
    ['mig_id', migId],
    ['mig_profile', migProfile],
  ];
}

/**
 * Sorted, none empty, none twice: a later label of a name that is taken, and any named as the aggregator's own
 * (node, cluster), is given the prefix that Prometheus gives it.
 */
function distinct(labels: Labels): Labels {
  const byName = new Map<string, string>();
  for (const [name, value] of labels) {
    if (value === '') continue;
    let free = name === 'node' || name === 'cluster' ? `exported_${name}` : name;
    while (byName.has(free)) free = `exported_${free}`;
    byName.set(free, value);
  }
  return [...byName].sort(([a], [b]) => (a < b ? -1 : 1));
}
