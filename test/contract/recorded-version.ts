/** What a recorded version collected: the truth that its stream and its buffer must give back. */
export interface ExpectedRecords {
  /** In slot order, the same in each tick. */
  readonly series: string[];
  readonly ticks: { readonly values: readonly number[]; readonly states: readonly number[] }[];
  readonly events: {
    readonly type: string;
    readonly gpu: string;
    readonly attributes: Readonly<Record<string, string>>;
  }[];
}
