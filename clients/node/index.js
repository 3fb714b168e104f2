// The API of Podwire for Node: one gRPC client a kind, with methods that return promises and async iterators, and errors
// that carry the reason.
//
// The code of the messages is not generated: proto-loader reads the protos when the program starts. Field names are in
// camelCase (`resourceVersion`), 64-bit numbers are text, and absent fields are absent.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as grpc from '@grpc/grpc-js';
import * as protoLoader from '@grpc/proto-loader';
import protobuf from 'protobufjs';

const here = dirname(fileURLToPath(import.meta.url));
// Beside this file in an installed package, at the top of the repository in a checkout.
const PROTOS = [join(here, 'protos'), join(here, '..', '..', 'protos')].find((folder) =>
  existsSync(join(folder, 'podwire', 'v1', 'pod.proto')),
);
const FILES = readdirSync(join(PROTOS, 'podwire', 'v1')).map((name) => `podwire/v1/${name}`);

const api = grpc.loadPackageDefinition(
  protoLoader.loadSync(FILES, { includeDirs: [PROTOS], longs: String, enums: String, oneofs: true, arrays: true }),
).podwire.v1;
const details = protobuf.loadSync(join(here, 'google_rpc.proto'));

// As the Python client's: a dead peer is noticed within 10 s, pages and batches fit.
const CHANNEL_OPTIONS = {
  'grpc.keepalive_time_ms': 5000,
  'grpc.keepalive_timeout_ms': 4000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.max_receive_message_length': 16 * 1024 * 1024,
  'grpc.max_send_message_length': 16 * 1024 * 1024,
  'grpc.max_reconnect_backoff_ms': 1000,
};
// Milliseconds for a call, the search for the server included.
const DEADLINE = 30_000;

/**
 * What a call failed with: `reason` as docs/api/errors.md lists them, `fields` where an object was wrong, `retryAfter`
 * (seconds) where the server has too much to do.
 */
export class PodwireError extends Error {
  constructor(error) {
    super(error.details);
    this.name = 'PodwireError';
    this.code = grpc.status[error.code];
    const carried = decodeDetails(error.metadata?.get('grpc-status-details-bin')[0]);
    this.reason = carried['google.rpc.ErrorInfo']?.reason ?? this.code;
    this.metadata = carried['google.rpc.ErrorInfo']?.metadata ?? {};
    this.fields = (carried['google.rpc.BadRequest']?.fieldViolations ?? []).map(({ field, description }) => ({
      path: field,
      message: description,
    }));
    const delay = carried['google.rpc.RetryInfo']?.retryDelay;
    this.retryAfter = delay ? delay.seconds + delay.nanos / 1e9 : 0;
  }
}

function decodeDetails(bytes) {
  if (!bytes) return {};
  const found = {};
  for (const { type_url: url, value } of details.lookupType('google.rpc.Status').decode(bytes).details) {
    const name = url.split('/').pop();
    const type = details.root.nested.google.nested.rpc.nested[name.replace('google.rpc.', '')];
    if (type) found[name] = type.toObject(type.decode(value), { longs: Number, defaults: true, arrays: true });
  }
  return found;
}

/**
 * The clients of all kinds: `connect('10.0.0.1:6440', { ca, cert, key })` with the paths of PEM files, or
 * `connect('unix:/run/podwire/api.sock')`. `close()` ends them.
 */
export function connect(address, tls) {
  const credentials = tls
    ? grpc.credentials.createSsl(readFileSync(tls.ca), readFileSync(tls.key), readFileSync(tls.cert))
    : grpc.credentials.createInsecure();
  const channel = new grpc.Channel(address, credentials, CHANNEL_OPTIONS);
  const clients = { close: () => channel.close() };
  for (const [name, Service] of Object.entries(api)) {
    if (Service.service) {
      clients[name[0].toLowerCase() + name.slice(1)] = wrap(
        new Service(address, credentials, { channelOverride: channel }),
        Service.service,
      );
    }
  }
  return clients;
}

/** Every method of a service: one that answers once as a promise, one that streams as an async iterator. */
function wrap(client, service) {
  const methods = {};
  for (const [name, { requestStream, responseStream }] of Object.entries(service)) {
    if (requestStream) continue; // Exec and its like: use grpc-js' own duplex streams.
    methods[name[0].toLowerCase() + name.slice(1)] = responseStream
      ? (request) => streamed(client[name](request))
      : (request) => answered(client, name, request);
  }
  return methods;
}

function answered(client, name, request) {
  return new Promise((resolve, reject) => {
    client[name](request, { deadline: Date.now() + DEADLINE }, (error, answer) =>
      error ? reject(new PodwireError(error)) : resolve(answer),
    );
  });
}

async function* streamed(call) {
  try {
    yield* call;
  } catch (error) {
    throw new PodwireError(error);
  } finally {
    call.cancel();
  }
}
