import type { FleetEvent } from '#shared/model/event.ts';
import type { AgentControl } from '../../../agent/control/agent-control.ts';
import type { AgentStatus } from '../../../agent/control/agent-status.ts';
import type { GateFacts, GpuFacts } from '../../../agent/control/gate-facts.ts';

export const NOW = 1_800_000_000_000;

export function statusOf(overrides: Partial<AgentStatus> = {}): AgentStatus {
  return {
    version: '1.2.3',
    cluster: 'east',
    node: 'gpu-7',
    run: '0123456789abcdef0123456789abcdef',
    pid: 42,
    now_ms: NOW,
    started_ms: NOW - 7_200_000,
    paused_until_ms: null,
    sources: [
      {
        name: 'nvml',
        what: 'NVML 590.48.01, 8 GPUs',
        state: 'reading',
        reason: '',
        interval_ms: 1000,
        last_read_ms: NOW - 400,
        series: 520,
        failures: 0,
        missed_ticks: 0,
        rejected: {},
        slots: { present: 512, not_supported: 8 },
      },
    ],
    gpus: 8,
    expected_gpus: { count: 8, from: 'config' },
    uplink: {
      connected: true,
      aggregator: 'agg-1.example:7400',
      problem: '',
      clock_skew_ms: 3,
      pending_records: 0,
      pending_samples: 0,
      oldest_not_durable_ms: NOW - 31_000,
    },
    buffer: { bytes: 5 * 2 ** 20, max_bytes: 2 * 2 ** 30, writable: true, unbuffered_records: 0 },
    lost_samples: {},
    ...overrides,
  };
}

export function gpuOf(overrides: Partial<GpuFacts> = {}): GpuFacts {
  return {
    gpu: '0',
    uuid: 'GPU-0',
    model: 'NVIDIA H100 80GB HBM3',
    lost: false,
    last_read_ms: NOW - 500,
    interval_ms: 1000,
    row_remap_failed: false,
    row_remap_pending: false,
    unrepairable: null,
    uncorrected_ecc_errors: 0,
    recovery_action: 0,
    fatal: [],
    failed_diagnostic: null,
    ...overrides,
  };
}

export function factsOf(overrides: Partial<GateFacts> = {}): GateFacts {
  return {
    now_ms: NOW,
    expected_gpus: { count: 1, from: 'config' },
    paused_until_ms: null,
    aggregator_connected: true,
    gpus: [gpuOf()],
    ...overrides,
  };
}

/** An agent of known words, that remembers what it was asked. */
export function fakeControl(overrides: Partial<AgentControl> = {}) {
  const calls: unknown[][] = [];
  const control: AgentControl = {
    status: async () => statusOf(),
    gateFacts: () => factsOf(),
    pause: async (ms) => void calls.push(['pause', ms]),
    resume: async () => void calls.push(['resume']),
    recordEvent: async (event: FleetEvent) => void calls.push(['event', event]),
    reload: async () => {
      calls.push(['reload']);
      return ['changed: collectors'];
    },
    ...overrides,
  };
  return { control, calls };
}

/** What a command wrote. */
export function fakeTerminal(columns = 100) {
  let text = '';
  return {
    columns,
    clock: { now: () => NOW, monotonic: () => performance.now() },
    write: (more: string) => {
      text += more;
    },
    get text() {
      return text;
    },
  };
}
