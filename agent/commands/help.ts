import { CONDITIONS } from './gate-verdict.ts';

/** Texts under each command's options: what the exit codes mean, and examples. At most 100 characters a line. */
export const HELP = {
  agent: `
Without a command it runs the agent. SIGHUP reads the configuration again: collectors, intervals,
log level, exporter.users, expected_gpus and renewed certificates of the exporter count at once; the
rest is named in the log and waits for a restart.

The commands take --config /etc/gpufleet/agent.yaml where none is given and that is there; those
that ask a running agent find it by its data_dir: its socket is <data_dir>/control.sock.

Environment (wins over the file):
  EXPORTER_PORT        port of /metrics, /healthz, /readyz (9400, or 9401 where that is taken)
  METRICS_PATH         path of the metrics (default /metrics)
  COLLECTION_INTERVAL  10s, 500ms; a bare number is milliseconds
  LOG_LEVEL            trace, debug, info, warn, error

Exit codes: 0 stopped in order, 1 failed, 2 usage or bad configuration; commands: see --help.`,

  status: `
Exit codes: 0 all is well, 1 degraded (what is wrong stands at the end), 2 usage, 3 no agent runs.`,

  doctor: `
Changes nothing, and may run beside a running agent. In the table: ok; none (not here, and nobody
said that it should be); warn; FAIL. Under what is not ok stands what to do.

Exit codes: 0 nothing failed, 1 something did, 2 usage.`,

  collect: `
Reads each source in this process, once; a second time where the first read only finds out what
there is. Nothing is kept and nothing is sent; a running agent is not disturbed. Without --json and
--openmetrics: Prometheus text. With --all, series without a value are said too, with the reason.

Exit codes: 0 every source was read, 1 one was not, or there is none, 2 usage or bad configuration.`,

  checkConfig: `
Exit codes: 0 it is good, 2 it is not: every fault is said, with its path.`,

  pause: `
Everything that holds a GPU's driver or device files lets go of it: for a driver upgrade, a reset
or a MIG change. What does not (kernel log, network, host, scraped endpoints) goes on. Collecting
resumes by itself at the end; again: for this long from now. At least 1s, at most 24h. Visible in
status, on /metrics (gpufleet_agent_pause_remaining_seconds) and as an event; check answers 21
meanwhile.

Exit codes: 0 every GPU is let go, 1 failed, 2 usage, 3 no agent is running here.`,

  resume: `
Exit codes: 0 done (also where nothing was paused), 1 failed, 2 usage, 3 no agent runs.`,

  reload: `
What SIGHUP does, with the answer: what was changed, and what waits for a restart.

Exit codes: 0 taken on, 1 failed, 2 it is bad and nothing was changed, 3 no agent runs.`,

  check: `
The first thing that is wrong, worst first, as one line and an exit code. Names are for --ignore:
    0  ok
    1  the check itself failed
    2  usage, or a bad configuration
${CONDITIONS.map(([name, code, what]) => `${String(code).padStart(5)}  ${name.padEnd(14)} ${what}`).join('\n')}

How many GPUs there must be (--gpus all): setting expected_gpus; where it is not set, the most that
this node ever had, which the agent learns and keeps.

Slurm (slurm.conf). A Prolog or Epilog that does not exit with 0 DRAINS the node, and a Prolog
requeues the job. Slurm ignores the exit code of a HealthCheckProgram: it must drain by itself.
  Prolog: exec gpufleet-agent check --gpus all
  Epilog: exec gpufleet-agent check --gpus all
  HealthCheckProgram: reason=$(gpufleet-agent check --gpus all) ||
    scontrol update NodeName="$(hostname -s)" State=DRAIN Reason="gpufleet $reason"

Kubernetes:
  exec: { command: [gpufleet-agent, check, --gpus, all, --timeout, 2s] }, timeoutSeconds: 5`,

  diag: `
The result goes to the aggregator as an event of type diagnostic, as durable as a sample. A pass
clears what closed the job gate and made the GPU critical (a fatal Xid, an earlier failed
diagnostic); a fail closes it, also over reboots, until a later one passes.

  dcgmi diag -r 3 -j > diag.json; gpufleet-agent event diag --source dcgmi --file diag.json
  gpufleet-agent event diag --source nccl --result pass --test all_reduce_perf --file nccl.log
  gpufleet-agent event diag --source burn-in --result fail --gpu 3

Exit codes: 0 taken, 1 failed, 2 usage or a file that cannot be used, 3 no agent runs.`,

  hashPassword: `
The password is the first line of standard input:
  openssl rand -hex 20 | tee /dev/stderr | gpufleet-agent hash-password
In the configuration:
  exporter: { users: { prometheus: "$scrypt$ln=14,r=8,p=1$..." } }`,
} as const;
