import { median } from '../../report.ts';
import { FAULT_KINDS } from './fleet-plan.ts';
import type { Finding } from './judge.ts';
import type { FleetResult } from './measure-fleet.ts';

/** An Xid alone changes no sample that says what is wrong: without the event nobody can know. */
const ONLY_AN_EVENT: ReadonlySet<string> = new Set(['xid']);

export interface KindFigures {
  readonly kind: string;
  readonly injected: number;
  readonly found: number;
  /** NaN where none was found. */
  readonly medianDelaySeconds: number;
}

export function showsInSamples({ fault }: Finding): boolean {
  return !ONLY_AN_EVENT.has(fault.kind);
}

/** Share that was found; 0 of none. */
export function recallOf(findings: readonly Finding[]): number {
  const found = findings.filter(({ delaySeconds }) => delaySeconds !== undefined).length;
  return findings.length === 0 ? 0 : found / findings.length;
}

export function figuresOf(findings: readonly Finding[]): KindFigures[] {
  return FAULT_KINDS.flatMap((kind) => {
    const own = findings.filter(({ fault }) => fault.kind === kind);
    const delays = own.flatMap(({ delaySeconds }) => delaySeconds ?? []);
    const medianDelaySeconds = delays.length > 0 ? median(delays) : Number.NaN;
    return own.length === 0 ? [] : [{ kind, injected: own.length, found: delays.length, medianDelaySeconds }];
  });
}

/** For people: a line for each kind, then what was missed and what was raised for nothing. */
export function tableOf({ findings, samplesAlone, falseAlarms }: FleetResult): string[] {
  const without = new Map(figuresOf(samplesAlone).map((one) => [one.kind, one]));
  const rows = figuresOf(findings).map(({ kind, injected, found, medianDelaySeconds }) => {
    const alone = without.get(kind)!;
    return [
      kind,
      String(injected),
      String(found),
      seconds(medianDelaySeconds),
      String(alone.found),
      seconds(alone.medianDelaySeconds),
    ];
  });
  const head = ['fault', 'injected', 'found', 'delay', 'found, samples alone', 'delay, samples alone'];
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string =>
    `  ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join('  ')}`;
  return [
    line(head),
    ...rows.map(line),
    ...findings
      .filter(({ delaySeconds }) => delaySeconds === undefined)
      .slice(0, MAX_NAMED)
      .map(missed),
    ...falseAlarms
      .slice(0, MAX_NAMED)
      .map(({ node, gpu, how, text }) => `  false alarm (${how}) on ${node} GPU ${gpu || '(node)'}: ${text}`),
  ];
}

/** Faults missed and false alarms that are told one by one. */
const MAX_NAMED = 20;

function missed({ node, model, load, fault }: Finding): string {
  return `  missed: ${fault.kind} on ${node} GPU ${fault.gpu} (${model}, ${load}), ${((fault.ends - fault.begins) / 60).toFixed(0)} min`;
}

function seconds(value: number): string {
  return Number.isNaN(value) ? '-' : `${value.toFixed(0)} s`;
}
