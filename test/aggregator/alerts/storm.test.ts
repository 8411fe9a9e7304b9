import { describe, expect, it } from 'vitest';
import { describeStorm, runStorm } from './storm-run.ts';

describe('a storm: 20,000 GPUs cross a threshold within one tick', () => {
  it('leaves every transition in the stream exactly once, and the event loop and memory are there for the rest', async () => {
    const storm = await runStorm(2_500);
    console.log(describeStorm(storm));
    expect(storm.dropped).toEqual([]);
    expect(storm.firing).toBe(storm.gpus);
    expect(storm.recorded.size).toBe(storm.gpus);
    const odd = [...storm.recorded.values()].filter((said) => said.join() !== '1 firing,2 resolved');
    expect(odd).toEqual([]);
    // Very generous: a machine that does other things at once. Typical figures are printed above.
    expect(storm.loopDelayMaxMs).toBeLessThan(5_000);
    expect(storm.heapPeakMb - storm.heapBeforeMb).toBeLessThan(800);
    expect(storm.retainedMb).toBeLessThan(150);
  }, 180_000);
});
