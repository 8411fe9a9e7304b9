import type { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';

/** The rules of one file, checked. Disabled rules are left out of `rules` and named in `disabled`. */
export interface RuleSet {
  readonly rules: readonly Rule[];
  readonly disabled: readonly string[];
  /** Nothing wrong, but worth a log line: a metric that is not in the catalogue. */
  readonly warnings: readonly string[];
}

export type Rule = ThresholdRule | EventRule;

/** One alert for each series (or ratio of two) that the rule matches; its severity rises and falls. */
export interface ThresholdRule {
  readonly kind: 'threshold';
  readonly name: string;
  readonly summary: string;
  /** Tried in order: the first whose series a GPU has is used for that GPU. */
  readonly values: readonly Operand[];
  readonly direction: 'above' | 'below';
  /** Resolve margin in the unit of the value: a firing level ends once the value is this far back. */
  readonly clear: number;
  /** In rising severity. */
  readonly levels: readonly Level[];
}

/** A series, or the quotient of two of the same GPU. */
export interface Operand {
  readonly metric: string;
  readonly labels: LabelMatch;
  readonly over?: { readonly metric: string; readonly labels: LabelMatch };
}

/** Labels that a series must carry with exactly these values; others are free. */
export type LabelMatch = Readonly<Record<string, string>>;

export interface Level {
  readonly severity: Severity;
  readonly limit: Limit;
  /** How long the level must hold before it fires. */
  readonly forMs: number;
}

/** A number, or a factor of another series of the same GPU. */
export type Limit = number | { readonly metric: string; readonly labels: LabelMatch; readonly times: number };

/** One alert for each key of an event type on one GPU or node. */
export interface EventRule {
  readonly kind: 'event';
  readonly name: string;
  readonly summary: string;
  readonly event: string;
  /** Which Xids: those that the catalogue calls critical, these codes, or whatever the event says. */
  readonly codes: 'critical' | 'any' | ReadonlySet<number>;
  /** Attribute of the event that tells alerts of one GPU apart; undefined for one alert. */
  readonly key: string | undefined;
  readonly severity: Severity;
  /** Attributes that the event must carry with these values. */
  readonly where: LabelMatch;
  /** The alert resolves with an event of the type that carries these; undefined where only time resolves it. */
  readonly until: LabelMatch | undefined;
  /** The alert resolves this long after the last event. */
  readonly expiresMs: number;
}
