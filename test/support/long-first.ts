import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Minutes of waiting for real programs: begun last, one of them would run alone while the other workers idle. */
const LONG = ['test/fault/', 'test/benchmarks/', 'test/system/', 'test/agent/buffer/buffer-model'];

/** The long files first, in this order; the rest as vitest would have it. */
export class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = LONG.findIndex((part) => moduleId.includes(part));
      return place < 0 ? LONG.length : place;
    };
    return sorted.sort((a, b) => rank(a) - rank(b));
  }
}
