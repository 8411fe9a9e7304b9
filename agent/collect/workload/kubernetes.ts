import { Client, credentials, type ServiceError, status } from '@grpc/grpc-js';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { gpuNameOf, type Holding, type Holdings } from './holding.ts';
import { decodePodResources, type PodDevices } from './pod-resources.ts';

/** An answer for 500 pods has about 200 kB; grpc-js refuses a larger one before it is read. */
const MAX_ANSWER_BYTES = 4 * 2 ** 20;
const METHOD = '/v1.PodResourcesLister/List';
/** Whole GPUs, those that are shared by time, and MIG instances. */
const RESOURCE =
  /^(?:nvidia\.com\/(?:gpu|gpu\.shared|mig-[a-z0-9.+]+(?:\.shared)?)|amd\.com\/[a-z0-9_.-]*gpu[a-z0-9_.-]*)$/;

/** Asks kubelet which container has which GPU, over its unix socket. */
export class KubernetesHoldings implements AsyncDisposable {
  readonly #path: string;
  readonly #client: Client;

  constructor(path: string) {
    this.#path = path;
    this.#client = new Client(`unix:${path}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
      'grpc.enable_retries': 0,
      // kubelet comes back: not after minutes.
      'grpc.max_reconnect_backoff_ms': 10_000,
      // The host's proxy is not for a socket of this host.
      'grpc.enable_http_proxy': 0,
    });
  }

  /** Throws `unavailable`, `permission_denied`, `invalid_input` or `resource_exhausted`. */
  async read(signal: AbortSignal): Promise<Holdings> {
    const devices = decodePodResources(await this.#list(signal));
    const held: Holding[] = [];
    let malformed = 0;
    for (const { resource, ids, ...who } of devices) {
      if (!RESOURCE.test(resource)) continue;
      for (const id of ids) {
        const gpu = gpuNameOf(id);
        if (gpu === undefined) malformed++;
        else held.push({ gpu, labels: labelsOf(who) });
      }
    }
    return { held, malformed };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
  }

  #list(signal: AbortSignal): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const call = this.#client.makeUnaryRequest(
      METHOD,
      () => Buffer.alloc(0),
      (bytes: Buffer) => bytes,
      null,
      (error, answer) => {
        if (error) reject(this.#failure(error, signal));
        else resolve(answer ?? Buffer.alloc(0));
      },
    );
    const cancel = (): void => call.cancel();
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel, { once: true });
    return promise.finally(() => signal.removeEventListener('abort', cancel));
  }

  #failure(error: ServiceError, signal: AbortSignal): FleetError {
    const code = error.code === status.RESOURCE_EXHAUSTED ? 'resource_exhausted' : 'unavailable';
    const denied = /\bEACCES\b|\bEPERM\b/.test(error.message);
    const cause = signal.aborted ? new Error('no answer in time', { cause: error }) : error;
    return new FleetError(denied ? 'permission_denied' : code, `Cannot ask kubelet at ${this.#path}`, {
      cause,
    });
  }
}

function labelsOf({ pod, namespace, container }: Pick<PodDevices, 'pod' | 'namespace' | 'container'>) {
  return { workload: 'kubernetes', namespace, pod, container };
}
