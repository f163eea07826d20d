// A contender that uses one of the clients for Node; see src/worker/mod.rs for what it says.

import { once } from "node:events";
import { writeSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";

const names = ["peer", "settings", "endpoint", "table", "number", "threads", "rounds", "hold-ms", "warm-up"];
const { values: options } = parseArgs({
  options: Object.fromEntries(names.map((name) => [name, { type: "string" }])),
});
const eager = options.settings === "eager";
const account = {
  region: "us-east-1",
  endpoint: options.endpoint,
  credentials: { accessKeyId: "test", secretAccessKey: "test" },
};

// Each answers with a function that acquires a lock and answers with one that releases it.
const clients = {
  async "@deliveryhero/dynamodb-lock"() {
    const { DynamoDBDocument } = await import("@aws-sdk/lib-dynamodb");
    const { DynamoDB } = await import("@aws-sdk/client-dynamodb");
    const { dynamoDBLockClientFactory } = await import("@deliveryhero/dynamodb-lock");
    const documents = DynamoDBDocument.from(new DynamoDB(account), {
      marshallOptions: { removeUndefinedValues: true },
    });
    const client = dynamoDBLockClientFactory(documents, { tableName: options.table });
    const wishes = eager ? { trustLocalTime: true, waitDurationInMs: 1 } : {};
    return async (name) => {
      const lock = await client.lock("contest", name, { ...wishes });
      return () => client.releaseLock(lock);
    };
  },

  async "dynamodb-lock-client"() {
    const require = createRequire(import.meta.url);
    process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
    const { DynamoDB } = require("aws-sdk");
    const { FailClosed, FailOpen } = require("dynamodb-lock-client");
    const basics = {
      dynamodb: new DynamoDB.DocumentClient(account),
      lockTable: options.table,
      partitionKey: "id",
    };
    const client = eager
      ? new FailClosed({ ...basics, acquirePeriodMs: 1, retryCount: Number.MAX_SAFE_INTEGER })
      : new FailOpen({ ...basics, leaseDurationMs: 10_000, heartbeatPeriodMs: 3_000 });
    const acquire = promisify(client.acquireLock.bind(client));
    return async (name) => {
      const lock = await acquire(name);
      lock.on?.("error", (error) => console.error(error));
      return promisify(lock.release.bind(lock));
    };
  },
};

function say(line) {
  writeSync(1, `${line}\n`);
}

function stamp(what, at = process.hrtime.bigint()) {
  say(`${what} ${options.number} ${at}`);
}

async function wait(acquire) {
  for (;;) {
    stamp("asked");
    try {
      return await acquire("contended");
    } catch (error) {
      if (error.code !== "FailedToAcquireLock") throw error;
      stamp("gave-up");
    }
  }
}

const acquire = await clients[options.peer]();
for (let i = 0; i < Number(options["warm-up"]); i++) {
  const release = await acquire(`warm-up-${options.number}`);
  await release();
}
say("ready");
await once(process.stdin, "data");
for (let i = 0; i < Number(options.rounds); i++) {
  const release = await wait(acquire);
  stamp("granted");
  const hold = Number(options["hold-ms"]);
  if (hold > 0) await pause(hold);
  const began = process.hrtime.bigint();
  await release();
  const ended = process.hrtime.bigint();
  stamp("releasing", began);
  stamp("released", ended);
}
process.exit(0);
