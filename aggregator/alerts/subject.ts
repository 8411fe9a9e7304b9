/** What an alert is about, where it does not come from one series of a block: a series that went, or a group. */
export interface Subject {
  readonly cluster: string;
  /** Empty where it is about more than one node. */
  readonly node: string;
  /** Index; empty where it is about the node or a group. */
  readonly gpu: string;
  readonly gpuUuid: string;
  readonly gpuModel: string;
  /** What tells it apart from others of the same rule, node and GPU, such as `rack=r7`. */
  readonly key: string;
  /** Of the value: UCUM-like as in the catalogue, or what is counted, such as `GPUs`. */
  readonly unit: string;
  /** Of the alert. Of a group, the label that the rule groups by holds its name. */
  readonly labels: Readonly<Record<string, string>>;
}
