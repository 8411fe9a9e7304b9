import type { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';

/** The rules of one file, checked. Disabled rules are left out of `rules` and named in `disabled`. */
export interface RuleSet {
  readonly rules: readonly Rule[];
  readonly disabled: readonly string[];
  /** Nothing wrong, but worth a log line: a metric that is not in the catalogue. */
  readonly warnings: readonly string[];
}

export type Rule = ThresholdRule | AbsentRule | AggregateRule | EventRule;

/** A rule whose value is compared with levels. */
export type LevelledRule = ThresholdRule | AbsentRule | AggregateRule;

/** What every rule says of its alerts. */
export interface RuleTexts {
  readonly name: string;
  readonly summary: string;
  /** Templates by name, such as `description` and `runbook_url`; see annotations.ts. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Labels that its alerts get beside those of their series. */
  readonly addLabels: Readonly<Record<string, string>>;
}

interface Levelled extends RuleTexts {
  readonly direction: 'above' | 'below';
  /** Resolve margin in the unit of the value: a firing level ends once the value is this far back. */
  readonly clear: number;
  /** A level goes on firing for so long after its condition ended; if it comes back meanwhile, nothing happened. */
  readonly keepFiringMs: number;
  /** In rising severity. */
  readonly levels: readonly Level[];
}

/** One alert for each series (or ratio of two) that the rule matches; its severity rises and falls. */
export interface ThresholdRule extends Levelled {
  readonly kind: 'threshold';
  /** Tried in order: the first whose series a GPU has is used for that GPU. */
  readonly values: readonly Operand[];
}

/**
 * One alert for each series that was there and is no longer, while its node is connected. The value is how long ago it
 * was last seen, s.
 */
export interface AbsentRule extends Levelled {
  readonly kind: 'absent';
  readonly metric: string;
  readonly labels: LabelMatch;
}

/** One alert for each group of GPUs or nodes. */
export interface AggregateRule extends Levelled {
  readonly kind: 'aggregate';
  readonly of: /** How many of the group's GPUs (where the rule is about nodes: nodes) have a firing alert of that rule. */
    | { readonly fn: 'count_of'; readonly rule: string }
    /** The same as a share of all GPUs (nodes) that the group has, 0 to 1. */
    | { readonly fn: 'share_of'; readonly rule: string }
    | {
        readonly fn: 'avg' | 'min' | 'max' | 'sum';
        readonly metric: string;
        readonly labels: LabelMatch;
      };
  readonly by: GroupBy;
}

/** `fleet` is everything; the others are what the inventory or the agents' external labels say of a node. */
export type GroupBy =
  | 'node'
  | 'rack'
  | 'pool'
  | 'switch'
  | 'pdu'
  | 'cooling_zone'
  | 'row'
  | 'datacenter'
  | 'cluster'
  | 'fleet';

/** A series, or the quotient of two of the same GPU. */
export interface Operand {
  readonly metric: string;
  readonly labels: LabelMatch;
  readonly over?: { readonly metric: string; readonly labels: LabelMatch };
  /** Of a counter: by how much it grew within the window, or that for each second. A reset is no growth. */
  readonly window?: { readonly fn: 'increase' | 'rate'; readonly ms: number };
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
export interface EventRule extends RuleTexts {
  readonly kind: 'event';
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
  /** The type of the event that resolves it, where that is another one, such as `gpu_back` for `gpu_lost`. */
  readonly untilEvent?: string;
  /** The alert resolves this long after the last event. */
  readonly expiresMs: number;
}
