import { readdirSync } from 'node:fs';
import { counter, gauge, type Registry } from './registry.ts';

/** What this process itself costs, under the names that every Prometheus client uses. */
export function processMetrics(registry: Registry, process: NodeJS.Process): void {
  const started = Date.now() / 1000 - process.uptime();
  let cpuSeen = 0;
  counter(registry, {
    name: 'process_cpu_seconds_total',
    help: 'CPU time of the process, user and system.',
    collect() {
      const { user, system } = process.cpuUsage();
      const cpu = (user + system) / 1e6;
      this.inc(cpu - cpuSeen);
      cpuSeen = cpu;
    },
  });
  gauge(registry, {
    name: 'process_resident_memory_bytes',
    help: 'Resident memory of the process.',
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  gauge(registry, {
    name: 'process_start_time_seconds',
    help: 'When the process started, Unix seconds.',
  }).set(started);
  gauge(registry, {
    name: 'process_open_fds',
    help: 'Open file descriptors; absent where /proc is not there.',
    collect() {
      try {
        this.set(readdirSync('/proc/self/fd').length);
      } catch {
        this.reset();
      }
    },
  });
}
