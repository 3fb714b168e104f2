// Lists the pods, creates a ConfigMap, watches it change, sees what errors look like, and deletes it again:
//
//     node example.js 10.77.0.2:6440 ca.pem client.pem client.key
//     node example.js unix:/run/podwire/api.sock

import { connect, PodwireError } from './index.js';

const [address, ca, cert, key] = process.argv.slice(2);
const client = connect(address, ca && { ca, cert, key });
const namespace = 'default';
const name = 'from-node';

const pods = await client.pods.list({ namespace });
console.log(`pods: ${pods.items.length} at revision ${pods.metadata.resourceVersion}`);

const object = { metadata: { name, namespace }, data: { colour: 'red' } };
const created = await client.configMaps.create({ object });
console.log(`created ${created.metadata.name}`);

// The list says where history goes on; the watch tells everything after that.
const listed = await client.configMaps.list({ namespace });
const watching = client.configMaps.watch({
  namespace,
  fieldSelector: `metadata.name=${name}`,
  resourceVersion: listed.metadata.resourceVersion,
  epoch: listed.metadata.epoch,
});
await client.configMaps.patch({
  namespace,
  name,
  type: 'merge',
  patch: Buffer.from(JSON.stringify({ data: { colour: 'blue' } })),
});
changes: for await (const { events } of watching) {
  for (const event of events ?? []) {
    if (event.type === 'BOOKMARK') continue;
    console.log(`${event.type} ${event.object.metadata.name}: ${event.object.data.colour}`);
    break changes;
  }
}

async function failing(what, call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof PodwireError)) throw error;
    console.log(`${what}: ${error.reason} (${error.code}) ${error.fields.map(({ path }) => path).join(', ')}`.trim());
  }
}
await failing('a second one of that name', () => client.configMaps.create({ object }));
await failing('one that is not there', () => client.configMaps.get({ namespace, name: 'nobody' }));
await failing('a pod without containers', () =>
  client.pods.create({ object: { metadata: { name: 'Wrong', namespace }, spec: {} } }),
);

await client.configMaps.delete({ namespace, name });
console.log(`deleted ${name}`);
client.close();
