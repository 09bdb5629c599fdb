// Calls a gateway as a product backend would, and prints what came of each call as one line of JSON.
//
// Usage: node built/backend.js BASE_URL [--ca FILE] [--token TOKEN] [--waiting ITEM]

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { createRegistry } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { EventType } from "./gen/recollect_api/v1/event_pb.js";
import { Histories } from "./gen/recollect_api/v1/histories_pb.js";
import { Recommender } from "./gen/recollect_api/v1/recommender_pb.js";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { ca: { type: "string" }, token: { type: "string" }, waiting: { type: "string" }, user: { type: "string" } },
});
const user = values.user ?? "user-7";
const bearer: Interceptor = (next) => (request) => {
  if (values.token !== undefined) request.header.set("authorization", `Bearer ${values.token}`);
  return next(request);
};
const transport = createGrpcTransport({
  baseUrl: positionals[0] ?? "http://localhost:50051",
  interceptors: [bearer],
  nodeOptions: values.ca === undefined ? {} : { ca: readFileSync(values.ca) },
});
const recommender = createClient(Recommender, transport);
const histories = createClient(Histories, transport);
const details = createRegistry(BadRequestSchema, ErrorInfoSchema);

function print(call: string, outcome: object): void {
  console.log(JSON.stringify({ call, ...outcome }, (_key, value) => (typeof value === "bigint" ? Number(value) : value)));
}

/** Prints what `call` ends with; where it is refused, what google.rpc.Status says of that. */
async function told(call: string, work: () => Promise<object>): Promise<void> {
  try {
    print(call, await work());
  } catch (raised) {
    const error = ConnectError.from(raised);
    const [info] = error.findDetails(ErrorInfoSchema);
    const [wrong] = error.findDetails(BadRequestSchema);
    print(call, {
      code: Code[error.code],
      reason: info?.reason,
      fields: wrong?.fieldViolations.map((violation) => violation.field),
      requestId: error.metadata.get("x-request-id"),
      message: info === undefined ? error.rawMessage : undefined,
    });
  }
}

await told("append", async () => {
  const time = { seconds: 1_700_000_000n, nanos: 0 };
  const events = [5n, 5n, 7n].map((itemId, at) => ({ itemId, time, type: EventType.CLICK, eventId: `event ${at}` }));
  return { accepted: (await histories.append({ userId: user, events }, { timeoutMs: 10_000 })).accepted };
});
await told("score", async () => {
  const request = { userId: user, itemIds: [5n, 7n, 9n], requestId: "from-typescript" };
  const { scores, historyLength, modelName } = await recommender.score(request, { timeoutMs: 10_000 });
  return { scores, historyLength, modelName };
});
await told("score of nothing", () => recommender.score({ requestId: "wrong" }, { timeoutMs: 10_000 }));
await told("recommend", () => recommender.recommend({ userId: user }, { timeoutMs: 10_000 }));
await told("stream", async () => {
  async function* rows() {
    for (const itemId of [5n, -1n, 9n]) yield { key: `item ${itemId}`, score: { userId: user, itemIds: [itemId] } };
  }
  const outcomes: Record<string, unknown> = {};
  for await (const answer of recommender.scoreStream(rows(), { timeoutMs: 10_000 })) {
    const { case: kind, value } = answer.outcome;
    if (kind === "status") {
      const reasons = value.details.map((detail) => anyUnpack(detail, details)?.$typeName);
      outcomes[answer.key] = { code: Code[value.code], reasons };
    } else {
      outcomes[answer.key] = value?.scores;
    }
  }
  return outcomes;
});
if (values.waiting !== undefined) {
  const itemIds = [BigInt(values.waiting)];
  await told("a deadline that passes", () => recommender.score({ userId: user, itemIds }, { timeoutMs: 500 }));
}
